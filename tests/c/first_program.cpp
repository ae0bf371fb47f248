// A program in C++ that links against a shared flatbed: it runs with the library that it was
// compiled for. Usage: flatbed_c_first_cpp CHECKPOINT (further arguments are ignored)
#include "flatbed/checkpoint.hpp"

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  return flatbed::Checkpoint::open(argv[1]) ? 0 : 1;
}
