#include "convert_jobs.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <utility>

#include "flatbed/checkpoint.hpp"
#include "format_text.hpp"
#include "open_input.hpp"
#include "url_text.hpp"

namespace flatbed::tool {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kExtension = ".safetensors";
constexpr std::array<std::string_view, 4> kTorchExtensions{".pth", ".pt", ".bin", ".ckpt"};

Error usage(std::string message) { return {ErrorCode::invalid_argument, std::move(message)}; }

bool names_directory(const fs::path& path) {
  if (is_url(path.native())) return is_folder_url(path.native());
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

// What a file's name says about its kind.
enum class Kind : std::uint8_t { safetensors, torch, other };

// What is behind a URL has a kind only if the URL names a file.
fs::path name_of(const fs::path& path) {
  const std::string& text = path.native();
  if (!is_url(text)) return path.filename();
  return is_folder_url(text) ? fs::path() : fs::path(url_name(text));
}

Kind kind_of(const fs::path& path) {
  std::string extension = name_of(path).extension().native();
  for (char& c : extension) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  if (extension == kExtension) return Kind::safetensors;
  return std::ranges::find(kTorchExtensions, extension) == kTorchExtensions.end() ? Kind::other
                                                                                  : Kind::torch;
}

// A link that leads nowhere counts, and so does a URL, which is asked later.
bool is_there(const fs::path& path) {
  if (is_url(path.native())) return true;
  std::error_code ignored;
  return fs::symlink_status(path, ignored).type() != fs::file_type::not_found;
}

// Makes two spellings of one file's path equal.
fs::path resolved(const fs::path& path) {
  if (is_url(path.native())) return path;
  std::error_code failed;
  fs::path out = fs::weakly_canonical(path, failed);
  return failed ? path : out;
}

// The name of the set that an index describes, with its variant where the hubs put it:
// "model.safetensors.index.fp16.json" becomes "model.fp16.safetensors". Empty for other names.
std::string set_name(const std::string& index) {
  constexpr std::string_view kIndex = ".index.";
  constexpr std::string_view kJson = ".json";
  const std::size_t at = index.rfind(kIndex);
  if (at == std::string::npos || !index.ends_with(kJson)) return {};
  const std::size_t variant = at + kIndex.size();
  if (variant + kJson.size() > index.size()) return index.substr(0, at);  // ".index.json"
  fs::path name = index.substr(0, at);
  const std::string ending = name.extension().native();
  return name.stem().native() + "." + index.substr(variant, index.size() - kJson.size() - variant) +
         ending;
}

// "model.pth" becomes "model.safetensors"; the index of a set takes the set's name.
fs::path output_name(const fs::path& input) {
  if (is_url(input.native()) && names_directory(input))
    return fs::path(url_name(input.native())) += kExtension;
  if (names_directory(input)) return resolved(input).filename() += kExtension;
  std::string name = name_of(input).native();
  if (std::string set = set_name(name); !set.empty()) name = std::move(set);
  return fs::path(name).replace_extension(kExtension);
}

// The name that transformers and diffusers give the weights of a folder whose first file this is:
// "pytorch_model-00001-of-00002.bin" becomes "model.safetensors".
fs::path hub_name(const fs::path& file) {
  const std::regex shard("-[0-9]+-of-[0-9]+");
  std::string name = std::regex_replace(file.filename().native(), shard, "");
  constexpr std::string_view kOld = "pytorch_model";
  if (name.starts_with(kOld)) name.replace(0, kOld.size(), "model");
  return fs::path(name).replace_extension(kExtension);
}

// Whether -o names a folder: only for the weights of a folder or set, whose name in it is known.
bool is_into_folder(const ConvertOptions& options) {
  if (options.paths.size() != 1 || options.output.empty() || options.sidecar) return false;
  const fs::path& input = options.paths[0];
  const bool many = names_directory(input) || !set_name(name_of(input).native()).empty();
  const bool folder = names_directory(options.output) || !is_there(options.output) ||
                      is_url(options.output.native());
  return many && folder && kind_of(options.output) == Kind::other;
}

Result<ConvertJob> job_into_folder(const ConvertOptions& options) {
  const fs::path& input = options.paths[0];
  std::error_code not_there;
  if (fs::equivalent(names_directory(input) ? input : resolved(input).parent_path(), options.output,
                     not_there)) {
    return usage(fmt::format("{} is the folder of the input: name another, or a file in it",
                             path_text(options.output)));
  }
  FLATBED_ASSIGN(const Checkpoint opened,
                 open_input(input, {.check_seal = CheckSeal::off}, options.remote));
  if (opened.files().empty()) return usage(fmt::format("{} has no files", path_text(input)));
  return ConvertJob{
      input, options.output / hub_name(opened.files()[0].path), false, true, options.output, 0};
}

Result<fs::path> output_beside(const fs::path& input) {
  if (is_url(input.native())) return output_name(input);  // in the current folder
  const std::string shown = path_text(input);
  if (names_directory(input)) {
    return usage(fmt::format("{} is a directory: name the output with -o OUT or --out-dir", shown));
  }
  if (kind_of(input) == Kind::safetensors) {
    return usage(
        fmt::format("{} would overwrite itself: name the output with -o OUT or --out-dir, or write "
                    "a seal next to it with --sidecar",
                    shown));
  }
  return input.parent_path() / output_name(input);
}

// Whether there are two paths and the second is an output: only if its kind is another than that of
// the first. `convert *.pth` must not destroy the second of two files.
bool is_in_out(const ConvertOptions& options) {
  const bool elsewhere = !options.output.empty() || !options.out_dir.empty() || options.sidecar;
  if (options.paths.size() != 2 || elsewhere) return false;
  const fs::path& in = options.paths[0];
  const Kind out = kind_of(options.paths[1]);
  return out != Kind::other && (names_directory(in) || out != kind_of(in));
}

std::string extensions_text() {
  return fmt::format("{} or one of {}", kExtension, fmt::join(kTorchExtensions, " "));
}

// Catches mistakes that would otherwise look like a missing input.
Result<void> check_last_path(const ConvertOptions& options) {
  const fs::path& last = options.paths.back();
  const bool elsewhere = options.sidecar || !options.out_dir.empty();
  if (elsewhere || options.paths.size() == 1 || is_there(last)) return {};
  const std::string shown = path_text(last);
  if (options.paths.size() == 2) {
    if (kind_of(last) != Kind::other)
      return usage(
          fmt::format("{} does not exist; to write a file of this name use -o {}", shown, shown));
    return usage(fmt::format("{} does not exist; the name of an output must end in {}", shown,
                             extensions_text()));
  }
  if (kind_of(last) != Kind::safetensors) return {};
  return usage(fmt::format("{} does not exist; for several inputs use --out-dir", shown));
}

Result<fs::path> output_for(const fs::path& input, const ConvertOptions& options) {
  if (options.sidecar) return fs::path(input) += ".flatbed.json";
  if (options.out_dir.empty()) return output_beside(input);
  return options.out_dir / output_name(input);
}

// What a job reads: a file, or the files of a set. Those of an input that cannot be opened do not
// matter, because its job fails.
void add_inputs(const ConvertJob& job, bool alone, std::set<fs::path>& inputs) {
  inputs.insert(resolved(job.input));
  if (is_url(job.input.native())) return;
  if (alone || (kind_of(job.input) != Kind::other && !names_directory(job.input))) return;
  const auto opened = Checkpoint::open(job.input, {.check_seal = CheckSeal::off});
  if (!opened) return;
  for (const FileInfo& file : opened->files()) inputs.insert(resolved(file.path));
}

// No output may be an input or the output of another job. (A job alone compares its output with
// the files that it opened.)
Result<void> check_distinct(const std::vector<ConvertJob>& jobs) {
  std::set<fs::path> inputs;
  std::map<fs::path, const ConvertJob*> outputs;
  for (const ConvertJob& job : jobs) add_inputs(job, jobs.size() == 1, inputs);
  for (const ConvertJob& job : jobs) {
    const fs::path output = resolved(job.output);
    if (inputs.contains(output)) {
      return usage(
          fmt::format("refusing to overwrite {}: it is also an input", path_text(job.output)));
    }
    const auto [other, added] = outputs.emplace(output, &job);
    if (!added) {
      return Error{
          ErrorCode::name_collision,
          fmt::format("{} and {} would both be written to {}: convert them one by one, each with "
                      "-o OUT",
                      path_text(other->second->input), path_text(job.input),
                      path_text(job.output))};
    }
  }
  return {};
}

Result<void> check_out(const fs::path& out) {
  const std::string shown = path_text(out);
  if (names_directory(out))
    return usage(fmt::format("{} is a directory: use --out-dir {}", shown, shown));
  if (kind_of(out) != Kind::other) return {};
  return usage(fmt::format("{}: the name of an output must end in {}", shown, extensions_text()));
}

Result<void> check_output_option(const ConvertOptions& options) {
  if (options.output.empty()) return {};
  if (options.paths.size() != 1) {
    return usage(fmt::format("--output needs a single input: found {}; for several use --out-dir",
                             options.paths.size()));
  }
  return check_out(options.output);
}

// A sidecar seals a file as it is, so options that change what is written do not apply.
Result<void> check_sidecar(const ConvertOptions& options) {
  const bool chooses = !options.select.empty() || !options.include.empty() ||
                       !options.exclude.empty() || !options.renames.empty();
  const bool changes = options.max_shard_nbytes != 0 || options.expand_aliases ||
                       options.allow_expansion || options.whole || options.strict_crc ||
                       options.ignore_crc || options.ignore_seal || options.allow_large_header ||
                       !options.out_dir.empty() || !options.seal || options.cast.dtype;
  if (options.sidecar && !options.output.empty())
    return usage("--sidecar and --output cannot be combined: a sidecar lies next to its file");
  if (!options.sidecar || (!chooses && !changes)) return {};
  return usage(
      "--sidecar seals files as they are: it can only be combined with --jobs, --dry-run, "
      "--no-sync, --force, --checksum, --quiet and --json");
}

// What cannot be at a URL, or cannot go there.
Result<void> check_urls(const ConvertOptions& options) {
  for (const fs::path& input : options.paths) {
    if (options.sidecar) FLATBED_TRY(check_is_local(input, "--sidecar"));
  }
  for (const fs::path& output : {options.output, options.out_dir}) {
    if (is_url(output.native()) && !output.native().starts_with("s3://"))
      return usage(
          fmt::format("cannot write to {}: expected a file or an s3:// URL", path_text(output)));
  }
  return {};
}

// A set is written into a folder of its own: see save_set.hpp.
Result<ConvertJob> job_of_set(const ConvertOptions& options) {
  if (options.paths.size() != 1 || options.output.empty() || !options.out_dir.empty())
    return usage("--max-shard-size needs a single input and -o FOLDER, a new folder for the set");
  const std::string shown = path_text(options.output);
  if (kind_of(options.output) != Kind::other && !names_directory(options.output)) {
    return usage(fmt::format(
        "{} is the name of a file: --max-shard-size writes a set into a folder, -o FOLDER", shown));
  }
  fs::path output = options.output;
  if (!output.has_filename()) output = output.parent_path();  // "folder/"
  if (output.filename().empty() || output.filename() == "." || output.filename() == "..")
    return usage(fmt::format("{} is not the name of a new folder", shown));
  ConvertJob job{options.paths[0], output, false, true, output.parent_path(), 0};
  job.max_shard_nbytes = options.max_shard_nbytes;
  return job;
}

// Some options apply only to PyTorch outputs, and one only to the others.
Result<void> check_torch(const ConvertOptions& options, bool torch) {
  if (options.allow_conversion && options.unsafe_objects)
    return usage("--allow-conversion and --unsafe-objects cannot be combined");
  if (torch && options.expand_aliases)
    return usage(
        "--expand-aliases does not apply to PyTorch outputs, where tensors can share bytes");
  const bool chosen = options.allow_conversion || options.unsafe_objects || options.keep_device;
  if (torch || !chosen) return {};
  return usage(fmt::format(
      "--allow-conversion, --unsafe-objects and --keep-device need an OUT that ends in one of {}",
      fmt::join(kTorchExtensions, " ")));
}

}  // namespace

Result<fs::path> planned_output(const ConvertOptions& options) {
  if (!options.output.empty()) return options.output;
  return output_for(options.paths[0], options);
}

bool may_name_folder(const fs::path& output) { return kind_of(output) == Kind::other; }

fs::path existing_parent(const fs::path& path) {
  if (is_url(path.native())) return path;
  fs::path at = path;
  while (!at.empty() && !is_there(at)) at = at.parent_path();
  return at.empty() ? fs::path(".") : at;
}

fs::path first_missing(const fs::path& path) {
  fs::path at = path.has_filename() ? path : path.parent_path();
  for (fs::path above = at.parent_path(); !above.empty() && !is_there(above);
       above = at.parent_path())
    at = above;
  return at;
}

Result<ConvertJobs> plan_jobs(const ConvertOptions& options) {
  FLATBED_TRY(check_urls(options));
  FLATBED_TRY(check_sidecar(options));
  if (options.max_shard_nbytes != 0) {
    FLATBED_TRY(check_torch(options, false));
    FLATBED_ASSIGN(ConvertJob job, job_of_set(options));
    return ConvertJobs{{std::move(job)}, false};
  }
  if (is_into_folder(options)) {
    FLATBED_TRY(check_torch(options, false));
    FLATBED_ASSIGN(ConvertJob job, job_into_folder(options));
    return ConvertJobs{{std::move(job)}, false};
  }
  const bool is_odd = !options.output.empty() && kind_of(options.output) == Kind::other;
  if (is_odd && !is_there(options.paths[0]))
    return Error{ErrorCode::file_not_found,
                 fmt::format("{} does not exist", path_text(options.paths[0]))};
  FLATBED_TRY(check_output_option(options));
  const bool in_out = is_in_out(options);
  const fs::path named = in_out ? options.paths[1] : options.output;
  const bool torch = kind_of(named) == Kind::torch;
  FLATBED_TRY(check_torch(options, torch));
  ConvertJobs plan;
  if (!named.empty()) {
    FLATBED_TRY(check_out(named));
    plan.jobs.push_back({options.paths[0], named, torch, !in_out, {}, 0});
  } else {
    FLATBED_TRY(check_last_path(options));
    for (const fs::path& input : options.paths) {
      FLATBED_ASSIGN(fs::path output, output_for(input, options));
      plan.jobs.push_back({input, std::move(output), false, true, options.out_dir, 0});
    }
    plan.batch = plan.jobs.size() > 1 || !options.out_dir.empty();
  }
  FLATBED_TRY(check_distinct(plan.jobs));
  return plan;
}

}  // namespace flatbed::tool
