// The part of the command line that `flatbed load` and `flatbed bench` have: their options and what
// --help says about them.
#pragma once

#include <CLI/CLI.hpp>

#include "cast_text.hpp"
#include "command_line.hpp"

namespace flatbed::tool {

// Each adds a subcommand to `app` that fills `parsed`, which must outlive it.
void add_load(CLI::App& app, CommandLine::Parsed& parsed);
void add_bench(CLI::App& app, CommandLine::Parsed& parsed);

// Adds --dtype and --keep, which fill `cast`, to a subcommand.
void add_cast(CLI::App& command, CastChoice& cast);

}  // namespace flatbed::tool
