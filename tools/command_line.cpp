#include "command_line.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <memory>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "command_table.hpp"
#include "commands.hpp"
#include "completion.hpp"
#include "flatbed/version.hpp"
#include "help_text.hpp"
#include "json_out.hpp"
#include "load_command_line.hpp"
#include "read_command_line.hpp"

namespace flatbed::tool {
namespace {

constexpr unsigned kMaxJobs = 64;

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
                   "Files, *.index.json or directories; any content, damaged or not")
      ->required()
      ->type_name("");
  scan->add_flag("--json", parsed.as_json, "Print one JSON object");
  scan->add_flag("-q,--quiet", options.quiet, "Print only what is not plain");
  scan->footer(
      "Reading with flatbed runs nothing of a file; scan is for files that torch.load or\n"
      "pickle.load will read. A file is\n"
      "  plain      nothing but what torch.load(weights_only=True) of PyTorch 2.14 allows\n"
      "  unknown    other classes or functions, whose code would run with weights_only=False; "
      "what\n"
      "             readers understand in different ways; what no scan can see\n"
      "  dangerous  what runs commands or code, reaches files, the network or attributes by name\n"
      "It follows every pickle as Python does, and calls nothing; of zips also what is hidden "
      "from\n"
      "some readers: two entries of a name, headers that disagree, flags, bytes between and "
      "after.\n"
      "It cannot promise that an unknown file does no harm, nor that a plain one holds the values\n"
      "that it claims. Of a directory, the files that look like a checkpoint's are scanned, "
      "without\n"
      "those of directories in it.\n\n"
      "Exit codes: 0 all are plain; 6 one or more unknown; 7 one or more dangerous; 1 a file "
      "cannot\n"
      "be read; 130 interrupted. Of several files the worst counts: 7, then 1, then 6, then 0.\n\n"
      "The JSON object has exit_code and files [{path, verdict, exit_code, error, files [{path,\n"
      "verdict, what, pickles}], findings [{severity, kind, module, qualname, file, record, "
      "offset,\n"
      "opcode, count, text}], findings_complete}]; kind is called, imported, computed, changed,\n"
      "opcode, malformed, unseen, hidden, trailing, container or torchscript. offset counts bytes "
      "of\n"
      "the record (of the file for container), opcode its opcodes, both from 0 and for the first "
      "of\n"
      "count places.");
}

void add_convert_choices(CLI::App& convert, CommandLine::Parsed& parsed) {
  ConvertOptions& options = parsed.convert;
  convert
      .add_option(
          "--select", options.select,
          "Keep the part of the tree at this dotted path; the path is removed from the names")
      ->type_name("PATH");
  convert.add_flag("--whole", options.whole,
                   "Keep a whole model as the object that was pickled, not as its state dict");
  convert.add_option("--include", options.include, "Keep only tensors that match; repeatable")
      ->allow_extra_args(false)
      ->type_name("GLOB");
  convert
      .add_option("--exclude", options.exclude,
                  "Drop tensors that match; repeatable; overrides --include")
      ->allow_extra_args(false)
      ->type_name("GLOB");
  convert.add_flag("--no-seal", parsed.no_seal, "Write no checksums");
  convert.add_flag("--expand-aliases", options.expand_aliases,
                   "Store a tensor with several names once for each of them");
  convert.add_flag("--allow-expansion", options.allow_expansion,
                   "Allow an output over 1 GiB that is more than 16 times the stored size");
  convert.add_flag("--allow-large-header", options.allow_large_header,
                   "Permit a header above 25,000,000 bytes, which some readers refuse");
}

void add_convert_to_torch(CLI::App& convert, CommandLine::Parsed& parsed) {
  ConvertOptions& options = parsed.convert;
  CLI::Option* conversion = convert.add_flag(
      "--allow-conversion", options.allow_conversion,
      "To a PyTorch file: replace what weights_only=True refuses (models by state dicts, numpy "
      "arrays by tensors, numpy scalars and paths by Python's, namespaces and the like by dict) "
      "and say so; not with --unsafe-objects");
  convert
      .add_flag("--unsafe-objects", options.unsafe_objects,
                "To a PyTorch file: keep such objects; it loads with weights_only=False only; not "
                "with --allow-conversion")
      ->excludes(conversion);
  convert.add_flag("--keep-device", options.keep_device,
                   "To a PyTorch file: tensors load where they were when saved, not on the cpu");
}

void add_convert(CLI::App& app, CommandLine::Parsed& parsed) {
  ConvertOptions& options = parsed.convert;
  CLI::App* convert = app.add_subcommand(
      "convert", "Write checkpoints as aligned and sealed .safetensors files, or for torch.load");
  convert->add_option("IN", options.paths, "IN... or IN OUT, see below")->required()->type_name("");
  convert->add_option("--out-dir", options.out_dir, "Write there; made when it does not exist")
      ->type_name("DIR");
  convert
      ->add_option("-j,--jobs", options.jobs,
                   fmt::format("Files that are converted at the same time (1 to {}, default {})",
                               kMaxJobs, options.jobs))
      ->check(CLI::Range(1U, kMaxJobs).description(""))
      ->type_name("N");
  add_convert_choices(*convert, parsed);
  add_convert_to_torch(*convert, parsed);
  convert->add_flag("--strict-crc", options.strict_crc,
                    "From a PyTorch zip: fail where a record's bytes do not have the CRC that the "
                    "zip states, or it states none; otherwise noted");
  convert->add_flag("--sidecar", options.sidecar,
                    "Change no .safetensors file: write its seal beside it, FILE.flatbed.json");
  convert->add_flag("-n,--dry-run", options.dry_run, "Say what would be done, write nothing");
  convert->add_flag("--no-sync", parsed.no_sync,
                    "Do not wait for the disk: faster, and the output"
                    " may not survive a power cut");
  convert->add_flag(
      "-f,--force", options.force,
      "Redo what is up to date; replace OUT also when IN is a .safetensors file or OUT "
      "a PyTorch file");
  convert->add_flag("-q,--quiet", options.quiet, "Print nothing but errors");
  convert->add_flag("--json", parsed.as_json, "Print one JSON object at the end");
  convert->footer(
      "Which file goes where:\n"
      "  convert IN                   beside IN, with the extension .safetensors\n"
      "  convert IN OUT               two paths of which the second ends in .safetensors\n"
      "  convert IN OUT               OUT ends in .pth .pt .bin .ckpt, and IN does not or OUT is "
      "not\n"
      "                               there yet: a PyTorch file, for weights_only=True and "
      "mmap=True\n"
      "  convert IN IN...             any other several paths: each beside its input\n"
      "  convert IN... --out-dir DIR  each into DIR, with the extension .safetensors\n"
      "  convert --sidecar IN...      FILE.flatbed.json beside each FILE\n"
      "An input is never written over. An output appears, or replaces an older one, only when it\n"
      "is complete. With several inputs or --out-dir, outputs that are valid and newer than their\n"
      "input are skipped, and one failure does not stop the rest; --force redoes all, as is\n"
      "needed after a change of options.\n"
      "An input that is a whole model, from torch.save(model), becomes its state dict, and so "
      "does\n"
      "one that --select names; --whole keeps the object.\n\n"
      "Exit codes: 0 all done; 1 the only input failed; 2 the command line is wrong, nothing was\n"
      "done; 5 some of several inputs failed; 130 interrupted, nothing partial is left.\n\n"
      "The JSON object has exit_code, the counts converted, planned, skipped, failed and\n"
      "not_started, and files [{input, output, status, found, chosen, weights [{select,\n"
      "kind, tensors}] (what --select PATH would keep alone), tensors, nbytes, file_nbytes,\n"
      "content, durable, seconds, notes, crc (as that of verify), error {code, name, message}}];\n"
      "or, when nothing was started, exit_code and error.");
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
      "bash: flatbed completion bash >~/.local/share/bash-completion/completions/flatbed\n"
      "zsh:  flatbed completion zsh >DIR/_flatbed, where DIR is in $fpath\n"
      "fish: flatbed completion fish >~/.config/fish/completions/flatbed.fish\n"
      "man:  flatbed completion man >DIR/man1/flatbed.1, where DIR is in $MANPATH\n"
      "Packages install all four.\n\n"
      "Exit codes: 0 done.");
}

}  // namespace

CommandLine::CommandLine()
    : app_("flatbed: model checkpoints as safetensors files that can be checked", "flatbed") {
  app_.set_help_flag("-h,--help", "Print this help and exit");
  app_.set_version_flag("--version",
                        fmt::format("flatbed {}.{}.{}", FLATBED_VERSION_MAJOR,
                                    FLATBED_VERSION_MINOR, FLATBED_VERSION_PATCH),
                        "Print the version and exit");
  app_.formatter(std::make_shared<HelpText>());  // before the commands, which inherit it
  app_.footer(exit_code_text());
  app_.require_subcommand(1);
  add_ls(app_, parsed_);
  add_verify(app_, parsed_);
  add_scan(app_, parsed_);
  add_cat(app_, parsed_);
  add_convert(app_, parsed_);
  add_load(app_, parsed_);
  add_bench(app_, parsed_);
  add_completion(app_, parsed_);
}

ExitCode CommandLine::run(int argc, char** argv, Output& output) {
  note_words(argc, argv);
  app_.parse(argc, argv);
  const Form form = parsed_.as_json ? Form::json : Form::text;
  if (app_.got_subcommand("ls")) return run_ls(parsed_.ls, output);
  if (app_.got_subcommand("verify")) {
    parsed_.verify.form = form;
    return run_verify(parsed_.verify, output);
  }
  if (app_.got_subcommand("scan")) {
    parsed_.scan.form = form;
    return run_scan(parsed_.scan, output);
  }
  if (app_.got_subcommand("cat")) {
    parsed_.cat.verify = !parsed_.no_verify;
    return run_cat(parsed_.cat, output);
  }
  if (app_.got_subcommand("load")) {
    parsed_.load.form = form;
    parsed_.load.verify = parsed_.no_verify ? Verify::no : Verify::yes;
    return run_load(parsed_.load, output);
  }
  if (app_.got_subcommand("completion")) {
    output.write(completion_of(parsed_.completion)(app_));
    return ExitCode::ok;
  }
  if (app_.got_subcommand("bench")) {
    parsed_.bench.form = form;
    return run_bench(parsed_.bench, output);
  }
  parsed_.convert.form = form;
  parsed_.convert.seal = !parsed_.no_seal;
  parsed_.convert.sync = !parsed_.no_sync;
  return run_convert(parsed_.convert, output);
}

ExitCode CommandLine::answer(const CLI::ParseError& error, Output& output) const {
  std::ostringstream text;
  std::ostringstream complaint;  // in CLI11's form; print_error() has ours
  if (app_.exit(error, text, complaint) == 0) {
    output.write(text.str());
    return ExitCode::ok;
  }
  return fail(
      {ErrorCode::invalid_argument, fmt::format("{}; --help shows what is possible", error.what())},
      ExitCode::usage, output);
}

ExitCode CommandLine::fail(const Error& error, ExitCode code, Output& output) const {
  // Half an object cannot be taken back; then the exit code and standard error have to do.
  if (wants_json_ && output.discard())
    JsonWriter(output).begin_result(command_).end_result(code, error);
  print_error(error);
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
