#include "convert_command_line.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <string>
#include <utility>

#include "commands.hpp"
#include "convert_set.hpp"
#include "flatbed/result.hpp"
#include "format_text.hpp"
#include "load_command_line.hpp"
#include "remote_command_line.hpp"
#include "renames.hpp"
#include "suggest.hpp"

namespace flatbed::tool {
namespace {

constexpr unsigned kMaxJobs = 64;

void add_choices(CLI::App& convert, ConvertOptions& options) {
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
  add_rename_options(convert, options.renames);
  add_cast(convert, options.cast);
  convert.add_flag_callback(
      "--no-seal", [&options] { options.seal = false; }, "Write no checksums");
  convert.add_flag("--expand-aliases", options.expand_aliases,
                   "Store a tensor with several names once for each of them");
  convert.add_flag("--allow-expansion", options.allow_expansion,
                   "Allow an output over 1 GiB that is more than 16 times the stored size");
  convert.add_flag("--allow-large-header", options.allow_large_header,
                   "Permit a header above 25,000,000 bytes, which some readers refuse");
}

void add_to_torch(CLI::App& convert, ConvertOptions& options) {
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

void add_shard_size(CLI::App& convert, ConvertOptions& options) {
  const auto complaint = [](const std::string& word) {
    const Result<std::uint64_t> nbytes = parse_shard_size(word);
    return nbytes ? std::string() : nbytes.error().message;
  };
  convert
      .add_option_function<std::string>(
          "--max-shard-size",
          [&options](const std::string& word) {
            options.max_shard_nbytes = *parse_shard_size(word);
          },
          "Write a sharded set into the folder OUT, cut as the Hub's library cuts it: 5GB is 5 x "
          "10^9 bytes of tensors, GiB counts in powers of 1024")
      ->check(complaint)
      ->type_name("SIZE");
}

void add_replacing(CLI::App& convert, ConvertOptions& options) {
  convert.add_flag(
      "-f,--force", options.force,
      "Replace an existing output that differs; one that is up to date is still skipped");
  convert.add_flag("--checksum", options.checksum,
                   "Compare every byte of an existing output, not samples of it");
}

// Options that allow converting an input that has faults.
void add_checks(CLI::App& convert, ConvertOptions& options) {
  CLI::Option* strict_crc =
      convert.add_flag("--strict-crc", options.strict_crc,
                       "From a PyTorch zip: fail also where a record states no CRC");
  convert
      .add_flag("--ignore-crc", options.ignore_crc,
                "From a PyTorch zip: convert records whose bytes do not match their CRC, and warn")
      ->excludes(strict_crc);
  convert.add_flag("--ignore-seal", options.ignore_seal,
                   "Read the inputs as if they were not sealed, and seal the outputs anew: for "
                   "files that were changed after sealing");
}

void add_manner(CLI::App& convert, ConvertOptions& options) {
  convert.add_flag("--sidecar", options.sidecar,
                   "Change no .safetensors file: write its seal beside it, FILE.flatbed.json");
  convert.add_flag_callback(
      "--no-sync", [&options] { options.sync = false; },
      "Do not wait for the disk: faster, and the output may not survive a power cut");
}

// The options that a job of a list may have too.
void add_job_options(CLI::App& convert, ConvertOptions& options) {
  add_shard_size(convert, options);
  add_replacing(convert, options);
  add_choices(convert, options);
  add_to_torch(convert, options);
  add_checks(convert, options);
  add_manner(convert, options);
}

// An empty path is what a shell makes of a variable that is not set; it must not mean "the
// default".
CLI::Validator not_empty() {
  return CLI::Validator(
      [](const std::string& path) { return std::string(path.empty() ? "the path is empty" : ""); },
      "");
}

void add_list(CLI::App& convert, ConvertOptions& options, CLI::Option* elsewhere) {
  CLI::Option* list =
      convert
          .add_option("--list", options.list,
                      "Convert the jobs of this file, one JSON object a line; - reads standard "
                      "input; see below")
          ->type_name("JOBS.jsonl")
          ->check(not_empty())
          ->excludes(elsewhere);
  const auto complaint = [](const std::string& word) {
    const Result<PartChoice> part = parse_part(word);
    return part ? std::string() : part.error().message;
  };
  convert
      .add_option_function<std::string>(
          "--part", [&options](const std::string& word) { options.part = *parse_part(word); },
          "Only the I-th of N parts of the list, for N workers: I counts from 0 to N-1 or from 1 "
          "to N")
      ->check(complaint)
      ->needs(list)
      ->type_name("I/N");
  convert
      .add_option("--report", options.report,
                  "Append the result of each job of the list to this file, one JSON object a line")
      ->needs(list)
      ->type_name("OUT.jsonl")
      ->check(not_empty());
}

void add_places(CLI::App& convert, ConvertOptions& options) {
  CLI::Option* output =
      convert.add_option("-o,--output", options.output, "Output for a single IN; see below")
          ->type_name("OUT")
          ->check(not_empty());
  convert.add_option("--out-dir", options.out_dir, "Write outputs into DIR; created if missing")
      ->type_name("DIR")
      ->check(not_empty())
      ->excludes(output);
  add_list(convert, options, output);
}

// The first part of the footer.
constexpr const char* kConvertPlaces =
    "Which file goes where:\n"
    "  convert IN                   beside IN, with the extension .safetensors\n"
    "  convert IN -o OUT            OUT ends in .safetensors, or in .pth .pt .bin .ckpt "
    "for a\n"
    "                               PyTorch file, for weights_only=True and mmap=True\n"
    "  convert IN OUT               the same if the kinds differ: x.pth y.safetensors,\n"
    "                               x.safetensors y.pth; never replaces OUT, even with "
    "--force\n"
    "  convert FOLDER -o NEW        the weights of a folder or set as one file in the "
    "folder NEW,\n"
    "                               named as the Hub names it: model.safetensors\n"
    "  convert IN -o NEW --max-shard-size SIZE\n"
    "                               shards and their index in the folder NEW, which must not "
    "exist,\n"
    "                               be empty, or with --force hold nothing but a set\n"
    "  convert IN IN...             any other several paths: each beside its input\n"
    "  convert IN... --out-dir DIR  each into DIR, with the extension .safetensors\n"
    "  convert --sidecar IN...      FILE.flatbed.json beside each FILE\n"
    "  convert --list JOBS.jsonl    what each line says: {\"in\": IN, \"out\": OUT, \"options\": "
    "{...}}\n\n";

// The part of the footer about lists.
constexpr const char* kConvertLists =
    "Lists: a line is a job, an object with in, out (as for -o; without it, as for a single IN) "
    "and "
    "options, which have the names of those above without the dashes: {\"dtype\": \"bf16\", "
    "\"exclude\": [\"*.bias\"], \"force\": true}. Options of the command line hold for every job "
    "that "
    "does not have them itself. A line that is wrong fails, and the rest is done; two jobs with "
    "one "
    "output are refused, and so is an output that is another job's input. Any number of workers "
    "may "
    "work on one list, with or without --part, and be started again: what is done is up to date, "
    "and "
    "an output that another worker is writing is waited for, not written twice. Each line of "
    "--report is as an item of files below, with its line.\n\n";

bool is_rename(std::string_view key) {
  return key.starts_with("rename") || key == "strip-prefix" || key == "add-prefix";
}

Error unknown_option(const CLI::App& app, std::string_view key) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back(name);
  }
  const std::string similar = similar_word(key, names);
  return {ErrorCode::invalid_argument,
          fmt::format("options: unknown key {}{}", quoted_text(key, 80),
                      similar.empty() ? "" : fmt::format("; did you mean {}?", similar))};
}

// The words of the command line that say what the option of a job says.
Result<void> append_words(const CLI::App& app, const JobOption& option,
                          std::vector<std::string>& words) {
  const std::string name = "--" + option.key;
  const CLI::Option* const known = app.get_option_no_throw(name);
  if (known == nullptr || option.key.starts_with('-')) return unknown_option(app, option.key);
  const bool is_flag = known->get_items_expected_max() == 0;
  if (is_flag != option.flag.has_value()) {
    return Error{ErrorCode::invalid_argument,
                 fmt::format("options: {}: found {}, expected {}", option.key,
                             option.flag ? "true or false" : "a string or a list of strings",
                             is_flag ? "true or false" : "a string or a list of strings")};
  }
  if (is_flag && *option.flag) words.push_back(name);
  for (const std::string& value : option.values) words.push_back(fmt::format("{}={}", name, value));
  return {};
}

}  // namespace

void add_convert(CLI::App& app, CommandLine::Parsed& parsed) {
  ConvertOptions& options = parsed.convert;
  CLI::App* convert = app.add_subcommand(
      "convert", "Write checkpoints as aligned and sealed .safetensors files, or for torch.load");
  CLI::Option* in =
      convert->add_option("IN", options.paths, "IN... or IN OUT, see below")->type_name("");
  convert->callback([&options] {
    if (options.paths.empty() && options.list.empty()) throw CLI::RequiredError("IN");
  });
  add_places(*convert, options);
  convert->get_option("--list")->excludes(in);
  convert
      ->add_option("-j,--jobs", options.jobs,
                   fmt::format("Files that are converted at the same time (1 to {}, default {})",
                               kMaxJobs, options.jobs))
      ->check(CLI::Range(1U, kMaxJobs).description(""))
      ->type_name("N");
  add_job_options(*convert, options);
  convert->add_flag("-n,--dry-run", options.dry_run,
                    "Say what would be done, and fail where the run would; write nothing");
  convert->add_flag("-q,--quiet", options.quiet, "Print nothing but errors and warnings");
  convert->add_flag("--json", parsed.as_json, "Print one JSON object at the end");
  add_remote(*convert, parsed.convert.remote);
  convert->footer(
      std::string(kConvertPlaces) +
      "No file is replaced by accident. An output that holds what would be written is up to "
      "date and stays as it is. Its header is compared, and at most 256 chunks of its data; "
      "--checksum compares all. Any other file of that name is refused without --force, and "
      "so is a sidecar that does not match its file, which may be damaged. An input is never "
      "written over. An output appears only when it is complete. Of several inputs, one "
      "failure does not stop the rest. --dtype rounds tensors of floats to the nearest values "
      "of another dtype; all others stay. Values that do not fit are counted, and their "
      "tensors named in a warning. An input that is a whole model, from "
      "torch.save(model), becomes its state dict, as does one that --select names; --whole "
      "keeps the object.\n\n" +
      kConvertLists +
      "Exit codes: 0 all done or up to date; 1 the only input failed; 2 the command line is "
      "wrong, or the only output exists and differs, and nothing was done; 5 some of several "
      "inputs failed; 130 interrupted, nothing partial is left (the process is terminated by "
      "the signal, so that a shell's loop stops).\n\n"
      "The JSON object has schema, command, exit_code, error, the counts converted, planned, "
      "up_to_date, failed and not_started, and files [{input, output, status, found, chosen, "
      "weights [{select, kind, tensors}] (what --select PATH would keep alone), tensors, "
      "nbytes, file_nbytes, content, shards [{path, tensors, nbytes, file_nbytes, content}] (none "
      "if the output is one file), durable, seconds, notes, warnings, chunks_reread (after damage "
      "on "
      "the way), crc (as that of verify), casts {dtype, tensors, saturated, infinite, nan, "
      "overflowed (tensors), "
      "overflows [{name, saturated, infinite, nan}]}, error {code, name, message}}]; casts is "
      "null without --dtype, or if nothing was written; if nothing was started, only the "
      "first four. With --list it has no files, but list, part, jobs, and failures [{line, "
      "input, output, error}] with the first of them.");
}

Result<PartChoice> parse_part(std::string_view word) {
  PartChoice part;
  const std::size_t slash = word.find('/');
  const auto number = [](std::string_view digits, std::uint64_t& value) {
    const auto [stop, failed] =
        std::from_chars(digits.data(), digits.data() + digits.size(), value);
    return failed == std::errc() && stop == digits.data() + digits.size();
  };
  const bool is_part =
      slash != std::string_view::npos && number(word.substr(0, slash), part.index) &&
      number(word.substr(slash + 1), part.count) && part.count != 0 && part.index <= part.count;
  if (!is_part) {
    return Error{ErrorCode::invalid_argument,
                 fmt::format("found {}, expected I/N with I from 0 to N-1, or from 1 to N",
                             quoted_text(word, 40))};
  }
  part.index %= part.count;
  return part;
}

Result<ConvertOptions> options_of_job(const ConvertOptions& all, const JobText& job) {
  ConvertOptions options = all;
  options.paths = {job.input};
  options.output = job.output;
  options.list.clear();
  CLI::App app;
  app.set_help_flag();
  add_job_options(app, options);
  std::vector<std::string> words;
  for (const JobOption& option : job.options) {
    FLATBED_TRY(append_words(app, option, words));
    if (is_rename(option.key)) options.renames.clear();
  }
  std::ranges::reverse(words);  // which is how the parser takes them
  try {
    app.parse(std::move(words));
  } catch (const CLI::ParseError& error) {
    return Error{ErrorCode::invalid_argument, fmt::format("options: {}", error.what())};
  }
  if (options.strict_crc && options.ignore_crc)
    return Error{ErrorCode::invalid_argument, "strict-crc and ignore-crc cannot be combined"};
  return options;
}

}  // namespace flatbed::tool
