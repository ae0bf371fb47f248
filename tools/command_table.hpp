// The command line as a table, read from the parser, so that --help, the completions of shells and
// the manual page say the same. Plain data.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace flatbed::tool {

struct ArgumentRow {
  std::vector<std::string>
      names;          // "-j", "--jobs"; of a positional "FILE", or "FILE..." for several
  std::string value;  // what follows an option: "N"; empty for flags
  std::vector<std::string> words;  // the values that are possible, if they are a few words
  std::string text;
  bool repeatable = false;
  bool required = false;
};

struct CommandRow {
  std::string name;
  std::string text;
  std::string footer;
  std::vector<ArgumentRow> positionals;
  std::vector<ArgumentRow> options;
};

// A positional in a line that shows how the command is used: in brackets if it may be left out.
[[nodiscard]] std::string usage_text(const ArgumentRow& positional);

// One command, or the tool itself.
[[nodiscard]] CommandRow command_row(const CLI::App& app);

// The subcommands of the tool.
[[nodiscard]] std::vector<CommandRow> command_table(const CLI::App& app);

}  // namespace flatbed::tool
