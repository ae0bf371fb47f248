// The part of the command line that `flatbed convert` has: its options, what --help says about
// them, and the same options as a job of a list has them.
#pragma once

#include <CLI/CLI.hpp>
#include <string_view>

#include "command_line.hpp"
#include "commands.hpp"
#include "flatbed/result.hpp"
#include "job_text.hpp"

namespace flatbed::tool {

// Adds the subcommand to `app`; it fills `parsed`, which must outlive it.
void add_convert(CLI::App& app, CommandLine::Parsed& parsed);

// "3/8". The index counts from 0 to N-1, and N means 0, so that N workers that count from 0 and N
// that count from 1 each do every job once. Errors: invalid_argument.
[[nodiscard]] Result<PartChoice> parse_part(std::string_view word);

// The options of one job of a list: its own, and those of the command line that it does not have.
// Errors: invalid_argument, for an unknown key or a value that the command line refuses as well.
[[nodiscard]] Result<ConvertOptions> options_of_job(const ConvertOptions& all, const JobText& job);

}  // namespace flatbed::tool
