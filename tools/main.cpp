// flatbed: the command-line tool.
#include "interrupt.hpp"
#include "tool.hpp"

int main(int argc, char** argv) {
  const flatbed::tool::ExitCode code = flatbed::tool::run_tool(argc, argv);
  flatbed::tool::die_if_interrupted();
  return static_cast<int>(code);
}
