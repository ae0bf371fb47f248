// The part of the command line that `flatbed series` has: its actions, their options, and what
// --help says.
#pragma once

#include <CLI/CLI.hpp>

#include "command_line.hpp"

namespace flatbed::tool {

// Adds the subcommand to `app`; it fills `parsed`, which must outlive it.
void add_series(CLI::App& app, CommandLine::Parsed& parsed);

}  // namespace flatbed::tool
