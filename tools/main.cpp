// flatbed: the command-line tool.
#include "tool.hpp"

int main(int argc, char** argv) { return static_cast<int>(flatbed::tool::run_tool(argc, argv)); }
