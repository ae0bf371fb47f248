#include "convert_output.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>

#include "format_text.hpp"
#include "interrupt.hpp"
#include "url_text.hpp"

namespace flatbed::tool {

namespace fs = std::filesystem;

namespace {

std::string advice_for(const ConvertJob& job, const ConvertOptions& options) {
  if (options.sidecar) return "use --force to seal the file as it is";
  if (!job.replaceable)
    return fmt::format("to replace it use --force -o {}", path_text(job.output));
  if (job.max_shard_nbytes == 0) return "use --force to replace it";
  std::error_code ignored;
  const bool is_folder =
      is_url(job.output.native()) || fs::is_directory(fs::symlink_status(job.output, ignored));
  if (!is_folder) return "name a new folder";
  return "use --force to replace a folder that holds nothing but a set";
}

}  // namespace

SaveOptions save_options(const ConvertJob& job, const ConvertOptions& options,
                         const ConvertWatch& watch) {
  SaveOptions save;
  save.replace = options.force && job.replaceable;
  save.seal = options.seal;
  save.sync = options.sync;
  save.dry_run = options.dry_run;
  save.allow_large_header = options.allow_large_header;
  save.strict_crc = options.strict_crc;
  save.ignore_crc = options.ignore_crc;
  save.verify = options.ignore_seal ? Verify::no : Verify::yes;
  save.threads = std::max(2U, std::thread::hardware_concurrency()) / std::max(1U, options.jobs);
  save.threads = std::clamp(save.threads, 1U, 8U);
  save.progress = watch.progress;
  save.cancel = &interrupted();
  return save;
}

CompareData compare_data(const ConvertOptions& options) {
  return options.checksum ? CompareData::all : CompareData::sampled;
}

Result<bool> judge_output(const ConvertJob& job, const ConvertOptions& options,
                          const Result<OutputState>& compared, Outcome& outcome) {
  // The input was opened before, so only the output can be a directory or a device.
  outcome.refused = !compared && compared.error().code == ErrorCode::not_a_regular_file;
  FLATBED_ASSIGN(const OutputState found, compared);
  if (found.kind == OutputKind::up_to_date) {
    outcome.report.nbytes = found.nbytes;
    outcome.report.content = found.content;
    outcome.status = Status::up_to_date;
    return true;
  }
  if (found.kind == OutputKind::absent || (options.force && job.replaceable)) return false;
  outcome.refused = true;
  const std::string output = path_text(job.output);
  const std::string_view what = options.sidecar
                                    ? "exists and does not match its file, which may be damaged"
                                    : "exists and is not what would be written";
  const std::string advice = advice_for(job, options);
  return Error{ErrorCode::file_exists,
               fmt::format("{} {}: {}; {}", output, what, found.difference, advice)};
}

// Makes the directory, or finds out what would prevent that.
Result<void> make_folder(const fs::path& folder, const ConvertOptions& options) {
  if (folder.empty() || is_url(folder.native())) return {};
  std::error_code failed;
  if (!options.dry_run) {
    fs::create_directories(folder, failed);
  } else if (const fs::path parent = existing_parent(folder); !fs::is_directory(parent, failed)) {
    failed = std::make_error_code(std::errc::not_a_directory);
  } else if (parent != folder && ::access(parent.c_str(), W_OK | X_OK) != 0) {
    failed = {errno, std::generic_category()};
  }
  if (!failed) return {};
  return Error{ErrorCode::io_error,
               fmt::format("{}: cannot create directory: {}", path_text(folder), failed.message())};
}

fs::path target_of(const ConvertJob& job, const ConvertOptions& options) {
  std::error_code ignored;
  if (!options.dry_run || job.folder.empty() || fs::exists(job.folder, ignored)) return job.output;
  const fs::path target = existing_parent(job.folder) / job.output.filename();
  const bool is_taken = fs::symlink_status(target, ignored).type() != fs::file_type::not_found;
  return is_taken ? first_missing(job.folder) : target;
}

// Every flatbed key belongs to a seal, so a plain file cannot hold any.
void note_unsealed(const SavePlan& plan, const ConvertOptions& options, Outcome& outcome) {
  if (options.seal || (plan.tree.size() == 0 && plan.aliases.empty())) return;
  outcome.notes.push_back(
      "without a seal the file holds only tensors: the nested structure and aliases are not "
      "written");
}

}  // namespace flatbed::tool
