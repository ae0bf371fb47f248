// The command lines of the subcommands that only read: ls, verify and cat.
#pragma once

#include <string>
#include <vector>

#include "command_line.hpp"

namespace flatbed::tool {

// --include and --exclude, which append to lists that must outlive the command.
void add_globs(CLI::App& command, std::vector<std::string>& include,
               std::vector<std::string>& exclude);

void add_ls(CLI::App& app, CommandLine::Parsed& parsed);
void add_verify(CLI::App& app, CommandLine::Parsed& parsed);
void add_diff(CLI::App& app, CommandLine::Parsed& parsed);
void add_cat(CLI::App& app, CommandLine::Parsed& parsed);

}  // namespace flatbed::tool
