// HelpText: the layout of --help. What the options are and what they do stands where the parser
// gets them, in command_line.cpp and load_command_line.cpp; the layout is ours because that of
// CLI11 differs between its versions. Immutable, thread-safe.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace flatbed::tool {

class HelpText : public CLI::FormatterBase {
 public:
  // The help of `app`, the tool or one of its commands. CLI11 calls it.
  [[nodiscard]] std::string make_help(const CLI::App* app, std::string name,
                                      CLI::AppFormatMode mode) const override;
};

}  // namespace flatbed::tool
