// run_tool: everything that the tool does in a process, for main() and for tests that run many
// command lines in one.
#pragma once

#include "exit_code.hpp"
#include "flatbed/collective.hpp"

namespace flatbed::tool {

// Runs one command line; `argv` is main()'s. Results go to standard output, errors to standard
// error. It catches every exception: the library throws none, but CLI11 does, and memory can run
// out. One call at a time. With `ranks`, every rank calls it, and does its share of
// `convert --list`.
[[nodiscard]] ExitCode run_tool(int argc, char** argv, Collective* ranks = nullptr);

}  // namespace flatbed::tool
