#include "command_line.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <memory>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "command_table.hpp"
#include "commands.hpp"
#include "completion.hpp"
#include "convert_command_line.hpp"
#include "flatbed/version.hpp"
#include "format_text.hpp"
#include "help_text.hpp"
#include "json_out.hpp"
#include "load_command_line.hpp"
#include "map_command_line.hpp"
#include "match_command_line.hpp"
#include "open_input.hpp"
#include "read_command_line.hpp"
#include "remote_command_line.hpp"
#include "series_command_line.hpp"
#include "suggest.hpp"

namespace flatbed::tool {
namespace {

using Completion = std::string (*)(const CLI::App& app);
struct CompletionRow {
  std::string_view word;
  Completion text;
};
constexpr std::array kCompletions{
    CompletionRow{"bash", bash_completion}, CompletionRow{"zsh", zsh_completion},
    CompletionRow{"fish", fish_completion}, CompletionRow{"man", manual_page}};

Completion completion_of(std::string_view word) {
  const auto* const row = std::ranges::find(kCompletions, word, &CompletionRow::word);
  return row == kCompletions.end() ? nullptr : row->text;
}

std::string exit_code_text() {
  std::string text = "Exit codes:\n";
  for (const ExitRow& row : kExitCodes) {
    text += fmt::format("  {:<4} {}\n", static_cast<int>(row.code), row.meaning);
  }
  return text;
}

void add_scan(CLI::App& app, CommandLine::Parsed& parsed) {
  ScanCommandOptions& options = parsed.scan;
  CLI::App* scan = app.add_subcommand(
      "scan", "Say what the pickles in files would import and call if Python loaded them");
  scan->add_option("FILE", options.paths,
                   "Files, *.index.json, directories or URLs; any content, damaged or not")
      ->required()
      ->type_name("");
  scan->add_flag("--json", parsed.as_json, "Print one JSON object");
  scan->add_flag("-q,--quiet", options.quiet, "Print only what is not plain");
  scan->add_flag("-r,--recursive", options.recursive, "Scan subdirectories too");
  add_remote(*scan, parsed.scan.remote);
  scan->footer(
      "Reading with flatbed runs nothing of a file; scan is for files that torch.load or "
      "pickle.load will read. A file is\n"
      "  plain      nothing but what torch.load(weights_only=True) of PyTorch 2.14 allows\n"
      "  unknown    other classes or functions, whose code would run with "
      "weights_only=False; what\n"
      "             readers understand in different ways; what no scan can see\n"
      "  dangerous  what runs commands or code, reaches files, the network or attributes by "
      "name\n"
      "It follows every pickle as Python does, and calls nothing; of zips also what is "
      "hidden from some readers: two entries of a name, headers that disagree, flags, bytes "
      "between and after. It cannot promise that an unknown file does no harm, nor that a "
      "plain one holds the values that it claims. A record that a pickle uses as a storage "
      "is data, whatever it looks like. Compressed files and files in archives are scanned "
      "too, and so are the files that an index names, whatever the index is called. Of a "
      "directory every file is scanned. Code is reported as unknown. What was not scanned is "
      "named and makes the verdict unknown: subdirectories (without -r), links that lead "
      "nowhere, files that cannot be read.\n\n"
      "Exit codes: 0 all are plain; 2 the command line is wrong; 6 one or more unknown; 7 "
      "one or more dangerous; 1 a file cannot be read; 130 interrupted. Of several files the "
      "worst counts: 7, then 1, then 6, then 0.\n\n"
      "The JSON object has schema, command, exit_code, error and files [{path, verdict, "
      "exit_code, error, files [{path, verdict, what, pickles, scanned}], not_scanned, "
      "findings [{severity, kind, module, qualname, file, record, offset, opcode, count, "
      "text}], findings_complete}]; kind is called, imported, computed, changed, opcode, "
      "malformed, unseen, hidden, trailing, container, torchscript or code. offset counts "
      "bytes of the record (of the file for container), opcode its opcodes, both from 0 and "
      "for the first of count places.");
}

// After the first "--" every word is a name, also one that begins with a dash. CLI11 understands
// that only as long as a required name is missing, so such a word gets a mark that makes it look
// like any other name; the names lose it when they are parsed.
constexpr char kMark = '\x1f';

// False: there is no "--".
bool mark_names(std::vector<std::string>& words) {
  const auto dashes = std::ranges::find(words, "--");
  if (dashes == words.end()) return false;
  for (auto word = words.erase(dashes); word != words.end(); ++word) {
    if (word->starts_with('-')) word->insert(word->begin(), kMark);
  }
  return true;
}

void unmark_names(CLI::App& app, const bool& has_marks) {
  const CLI::Validator unmark(
      [&has_marks](std::string& name) {
        if (has_marks && name.size() > 1 && name[0] == kMark && name[1] == '-') name.erase(0, 1);
        return std::string();
      },
      "");
  for (CLI::App* command : app.get_subcommands([](CLI::App*) { return true; })) {
    for (CLI::Option* option : command->get_options()) {
      if (option->get_positional()) option->transform(unmark);
    }
  }
}

void add_completion(CLI::App& app, CommandLine::Parsed& parsed) {
  CLI::App* completion = app.add_subcommand(
      "completion", "Print what completes command lines in a shell, or the manual page");
  completion->add_option("FORM", parsed.completion, "bash, zsh, fish or man")
      ->required()
      ->check([](const std::string& word) {
        return completion_of(word) != nullptr ? "" : word + ": expected bash, zsh, fish or man";
      })
      ->type_name("bash|zsh|fish|man");
  completion->footer(
      "  bash: flatbed completion bash >~/.local/share/bash-completion/completions/flatbed\n"
      "  zsh:  flatbed completion zsh >DIR/_flatbed, where DIR is in $fpath\n"
      "  fish: flatbed completion fish >~/.config/fish/completions/flatbed.fish\n"
      "  man:  flatbed completion man >DIR/man1/flatbed.1, where DIR is in $MANPATH\n"
      "Packages install all four.\n\n"
      "Exit codes: 0 done; 2 the command line is wrong.");
}

// One for each command; only the one that runs makes connections.
void begin_sessions(CommandLine::Parsed& parsed) {
  for (RemoteChoice* remote : {&parsed.ls.remote, &parsed.verify.remote, &parsed.diff.remote,
                               &parsed.scan.remote, &parsed.cat.remote, &parsed.convert.remote,
                               &parsed.load.remote, &parsed.match.remote, &parsed.map.remote}) {
    begin_session(*remote);
  }
}

struct CommandEntry {
  std::string_view name;
  void (*add)(CLI::App& app, CommandLine::Parsed& parsed);
};

// In the order of --help. `completion` is not among them: it needs all of them.
constexpr std::array kCommands{
    CommandEntry{"ls", add_ls},         CommandEntry{"verify", add_verify},
    CommandEntry{"diff", add_diff},     CommandEntry{"scan", add_scan},
    CommandEntry{"cat", add_cat},       CommandEntry{"convert", add_convert},
    CommandEntry{"match", add_match},   CommandEntry{"map", add_map},
    CommandEntry{"series", add_series}, CommandEntry{"load", add_load},
    CommandEntry{"bench", add_bench},
};

// CLI11's "--a excludes --b" and "--a requires --b".
std::string reworded(std::string text) {
  constexpr std::string_view kExcludes = " excludes ", kRequires = " requires ";
  if (const std::size_t at = text.find(kExcludes); at != text.npos)
    return text.replace(at, kExcludes.size(), " and ") + " cannot be combined";
  if (const std::size_t at = text.find(kRequires); at != text.npos)
    text.replace(at, kRequires.size(), " needs ");
  return text;
}

}  // namespace

CommandLine::CommandLine(std::string_view command, Collective* ranks)
    : app_("flatbed: model checkpoints as safetensors files that can be checked", "flatbed") {
  app_.set_help_flag("-h,--help", "Print this help and exit");
  app_.set_version_flag("--version",
                        fmt::format("flatbed {}.{}.{}", FLATBED_VERSION_MAJOR,
                                    FLATBED_VERSION_MINOR, FLATBED_VERSION_PATCH),
                        "Print the version and exit");
  app_.formatter(std::make_shared<HelpText>());  // before the commands, which inherit it
  app_.footer(exit_code_text() +
              "\nA file may be at a URL: https://host/path, s3://bucket/key, "
              "hf://owner/name@revision/path. A URL that ends with / is a folder, and so is "
              "hf://owner/name. Keys, region and endpoint for s3:// are those of the AWS tools "
              "(AWS_ACCESS_KEY_ID, AWS_PROFILE, AWS_ENDPOINT_URL and others, ~/.aws), the token "
              "for hf:// that of the Hub's library (HF_TOKEN, ~/.cache/huggingface/token).");
  app_.require_subcommand(1);
  const auto* const row = std::ranges::find(kCommands, command, &CommandEntry::name);
  if (row != kCommands.end()) {
    row->add(app_, parsed_);
  } else {
    for (const CommandEntry& entry : kCommands) entry.add(app_, parsed_);
    add_completion(app_, parsed_);
  }
  unmark_names(app_, has_marks_);
  parsed_.convert.ranks = ranks;
}

ExitCode CommandLine::run(int argc, char** argv, Output& output) {
  note_words(argc, argv);
  for (int i = 1; i < argc && first_.empty(); ++i)
    if (argv[i][0] != '-') first_ = argv[i];
  std::vector<std::string> words(argv, argv + argc);
  has_marks_ = mark_names(words);
  std::vector<const char*> marked;
  for (const std::string& word : words) marked.push_back(word.c_str());
  app_.parse(static_cast<int>(marked.size()), marked.data());
  begin_sessions(parsed_);
  if (parsed_.convert.ranks != nullptr && parsed_.convert.list.empty())
    return fail({ErrorCode::invalid_argument, "with several ranks only convert --list runs"},
                ExitCode::usage, output);
  return run_command(app_.get_subcommands().front()->get_name(), output);
}

ExitCode CommandLine::run_command(const std::string& command, Output& output) {
  const Form form = parsed_.as_json ? Form::json : Form::text;
  if (command == "ls") return run_ls(parsed_.ls, output);
  if (command == "verify") {
    parsed_.verify.form = form;
    return run_verify(parsed_.verify, output);
  }
  if (command == "diff") {
    parsed_.diff.form = form;
    return run_diff(parsed_.diff, output);
  }
  if (command == "scan") {
    parsed_.scan.form = form;
    return run_scan(parsed_.scan, output);
  }
  if (command == "cat") {
    parsed_.cat.verify = !parsed_.no_verify;
    return run_cat(parsed_.cat, output);
  }
  if (command == "load") {
    parsed_.load.form = form;
    const bool unchecked = parsed_.no_verify || parsed_.load.ignore_seal;
    parsed_.load.verify = unchecked ? Verify::no : Verify::yes;
    return run_load(parsed_.load, output);
  }
  if (command == "match") {
    parsed_.match.form = form;
    return run_match(parsed_.match, output);
  }
  if (command == "map") {
    parsed_.map.form = form;
    return run_map(parsed_.map, output);
  }
  if (command == "series") {
    parsed_.series.form = form;
    return run_series(parsed_.series, output);
  }
  if (command == "completion") {
    output.write(completion_of(parsed_.completion)(app_));
    return ExitCode::ok;
  }
  if (command == "bench") {
    parsed_.bench.form = form;
    return run_bench(parsed_.bench, output);
  }
  parsed_.convert.form = form;
  return run_convert(parsed_.convert, output);
}

std::string CommandLine::complaint(const CLI::ParseError& error) const {
  const std::vector<CLI::App*> chosen = app_.get_subcommands();
  std::string typed;
  std::vector<std::string> words;
  if (chosen.empty() && !first_.empty()) {
    typed = first_;
    for (const CLI::App* command : app_.get_subcommands([](const CLI::App*) { return true; }))
      words.push_back(command->get_name());
  } else if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::ExtrasError) &&
             !chosen.empty()) {
    for (const std::string& extra : app_.remaining(true)) {
      if (typed.empty() && extra.starts_with("--")) typed = extra.substr(0, extra.find('='));
    }
    for (const CLI::Option* option : chosen[0]->get_options()) {
      for (const std::string& name : option->get_lnames()) words.push_back("--" + name);
    }
  }
  if (typed.empty()) {
    std::string text = error.what();
    std::erase(text, kMark);
    const bool of_two = error.get_name() == "ExcludesError" || error.get_name() == "RequiresError";
    return of_two ? reworded(std::move(text)) : text;
  }
  const std::string similar = similar_word(typed, words);
  return fmt::format("unknown {} {}{}", typed[0] == '-' ? "option" : "command",
                     quoted_text(typed, 80),
                     similar.empty() ? "" : fmt::format("; did you mean {}?", similar));
}

ExitCode CommandLine::answer(const CLI::ParseError& error, Output& output) const {
  std::ostringstream text;
  std::ostringstream ignored;  // in CLI11's form; print_error() has ours
  if (app_.exit(error, text, ignored) == 0) {
    output.write(text.str());
    return ExitCode::ok;
  }
  return fail({ErrorCode::invalid_argument,
               fmt::format("{}; --help shows what is possible", complaint(error))},
              ExitCode::usage, output);
}

ExitCode CommandLine::fail(const Error& error, ExitCode code, Output& output) const {
  // Half an object cannot be taken back; then the exit code and standard error have to do.
  if (wants_json_ && output.discard())
    JsonWriter(output).begin_result(command_).end_result(code, error);
  // All ranks have the same words, and come to the same end.
  const Collective* const ranks = parsed_.convert.ranks;
  if (ranks == nullptr || ranks->rank() == 0) print_error(error);
  return code;
}

void CommandLine::note_words(int argc, char** argv) {
  const std::vector<CommandRow> commands = command_table(app_);
  for (int i = 1; i < argc && std::string_view(argv[i]) != "--"; ++i) {
    const std::string_view word = argv[i];
    wants_json_ = wants_json_ || word == "--json";
    if (command_.empty() && std::ranges::find(commands, word, &CommandRow::name) != commands.end())
      command_ = word;
  }
}

}  // namespace flatbed::tool
