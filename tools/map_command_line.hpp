// The part of the command line that `flatbed map` has: its options and what --help says.
#pragma once

#include <CLI/CLI.hpp>

#include "command_line.hpp"

namespace flatbed::tool {

// Adds the subcommand to `app`; it fills `parsed`, which must outlive it.
void add_map(CLI::App& app, CommandLine::Parsed& parsed);

}  // namespace flatbed::tool
