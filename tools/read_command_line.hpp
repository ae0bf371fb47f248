// The command lines of the subcommands that only read: ls, verify and cat.
#pragma once

#include "command_line.hpp"

namespace flatbed::tool {

void add_ls(CLI::App& app, CommandLine::Parsed& parsed);
void add_verify(CLI::App& app, CommandLine::Parsed& parsed);
void add_diff(CLI::App& app, CommandLine::Parsed& parsed);
void add_cat(CLI::App& app, CommandLine::Parsed& parsed);

}  // namespace flatbed::tool
