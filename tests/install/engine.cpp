// A user of the package: opens what it is given and prints how many tensors there are. Used by the
// three projects beside this file; argument: a checkpoint.
#include <iostream>

#include "flatbed/flatbed.hpp"

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const auto checkpoint = flatbed::Checkpoint::open(argv[1]);
  if (!checkpoint) {
    std::cerr << checkpoint.error().message << '\n';
    return 1;
  }
  std::cout << checkpoint->tensors().size() << " tensors\n";
  return 0;
}
