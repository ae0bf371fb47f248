// CommandLine: the tool's command line. Parses it and runs the subcommand that it names; owns what
// was parsed. For one thread.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <string_view>

#include "commands.hpp"
#include "exit_code.hpp"
#include "output.hpp"

namespace flatbed::tool {

class CommandLine {
 public:
  // `command` is the first word after the program's name. If it names a command, the parser knows
  // no other, which is most of the time that a short command takes; otherwise it knows all.
  // `ranks` may be null; otherwise it is for `convert --list`, and must outlive this object.
  explicit CommandLine(std::string_view command, Collective* ranks = nullptr);
  CommandLine(const CommandLine&) = delete;
  CommandLine& operator=(const CommandLine&) = delete;

  // Throws CLI::ParseError, which is how CLI11 reports a wrong command line and --help.
  [[nodiscard]] ExitCode run(int argc, char** argv, Output& output);

  // What that exception asks for: the help on standard output, or a complaint.
  [[nodiscard]] ExitCode answer(const CLI::ParseError& error, Output& output) const;

  // Reports an error of the command as a whole: on standard error, and as the JSON object if the
  // command line asks for one and nothing has been printed yet. Returns `code`.
  ExitCode fail(const Error& error, ExitCode code, Output& output) const;

  // The options of every subcommand; the parser fills those of the one that was named.
  struct Parsed {
    LsOptions ls;
    VerifyCommandOptions verify;
    DiffCommandOptions diff;
    ScanCommandOptions scan;
    CatOptions cat;
    ConvertOptions convert;
    LoadCommandOptions load;
    MatchCommandOptions match;
    MapCommandOptions map;
    SeriesCommandOptions series;
    BenchOptions bench;
    std::string completion;
    bool as_json = false;
    bool no_verify = false;
  };

 private:
  [[nodiscard]] ExitCode run_command(const std::string& command, Output& output);

  // What is wrong, and for a mistyped command or option what may have been meant.
  [[nodiscard]] std::string complaint(const CLI::ParseError& error) const;

  // Looks at the words before they are parsed, for errors that are found then.
  void note_words(int argc, char** argv);

  bool wants_json_ = false;
  std::string command_;     // empty if the command line names none
  std::string first_;       // word of the command line that is no option
  bool has_marks_ = false;  // see mark_names()
  Parsed parsed_;           // app_ refers to it
  CLI::App app_;
};

}  // namespace flatbed::tool
