// Saving and converting, in flatbed.h.
#include <system_error>

#include "base/str_cat.hpp"
#include "c/callbacks.hpp"
#include "c/guard.hpp"
#include "c/handles.hpp"
#include "c/saving.hpp"
#include "flatbed/check_plan.hpp"

namespace flatbed::c {

namespace {

static_assert(static_cast<int>(UnsafeObjects::refuse) == FLATBED_UNSAFE_REFUSE &&
              static_cast<int>(UnsafeObjects::convert) == FLATBED_UNSAFE_CONVERT &&
              static_cast<int>(UnsafeObjects::keep) == FLATBED_UNSAFE_KEEP);

// A report in C and the notes that go with it.
struct Written {
  flatbed_save_report report;
  std::vector<std::string> notes;
};

Result<Written> write_torch(const SaveTarget& target, const SavePlan& plan,
                            const flatbed_save_options& read) {
  FLATBED_ASSIGN(const SaveTorchOptions options, torch_options(read));
  FLATBED_ASSIGN(SaveTorchReport report, save_torch(target.path, plan, options));
  return Written{report_to_c(report.file, 1), std::move(report.notes)};
}

Result<Written> write_set(const SaveTarget& target, const SavePlan& plan,
                          const flatbed_save_options& read) {
  FLATBED_ASSIGN(SaveSetOptions options, set_options(read));
  options.replace = target.replace_set;
  FLATBED_ASSIGN(SaveSetReport report, save_set(target.path, plan, options));
  return Written{report_to_c(report.files, report.shards.size()), std::move(report.notes)};
}

Result<Written> write(const SaveTarget& target, const SavePlan& plan,
                      const flatbed_save_options& read) {
  if (target.format == FLATBED_FORMAT_TORCH) return write_torch(target, plan, read);
  if (target.format == FLATBED_FORMAT_SET) return write_set(target, plan, read);
  FLATBED_ASSIGN(const SaveOptions file, file_options(read));
  FLATBED_ASSIGN(const SaveReport report, save(target.path, plan, file));
  return Written{report_to_c(report, 1), {}};
}

Result<void> tell(const std::vector<std::string>& notes, const flatbed_save_options& options) {
  if (options.note == nullptr) return {};
  for (const std::string& note : notes) {
    FLATBED_TRY(callback_result(options.note(options.context, to_c(std::string_view(note))),
                                "the caller's note", ErrorCode::cancelled));
  }
  return {};
}

Result<void> save_as(const char* path, std::uint32_t format, bool replace_set,
                     const flatbed_save_plan* plan, const flatbed_save_options* options,
                     flatbed_save_report* report) {
  SaveTarget target{{}, format, replace_set};
  FLATBED_ASSIGN(target.path, read_path(path, format == FLATBED_FORMAT_SET ? "folder" : "path"));
  FLATBED_TRY(check(plan, "plan"));
  if (report != nullptr) FLATBED_TRY(check_report(report, "report"));
  if (plan->own_tree) FLATBED_TRY(check_plan_tree(plan->plan));
  return write_plan(target, plan->plan, options, report);
}

}  // namespace

Result<SaveOptions> file_options(const flatbed_save_options& read) {
  SaveOptions options;
  FLATBED_ASSIGN(const bool unsealed, read_flag(read.unsealed, "unsealed"));
  FLATBED_ASSIGN(const bool unsynced, read_flag(read.unsynced, "unsynced"));
  FLATBED_ASSIGN(const bool keep_existing, read_flag(read.keep_existing, "keep_existing"));
  options.seal = !unsealed;
  options.sync = !unsynced;
  options.replace = !keep_existing;
  FLATBED_ASSIGN(options.dry_run, read_flag(read.dry_run, "dry_run"));
  FLATBED_ASSIGN(options.allow_large_header,
                 read_flag(read.allow_large_header, "allow_large_header"));
  FLATBED_ASSIGN(options.strict_crc, read_flag(read.strict_crc, "strict_crc"));
  FLATBED_ASSIGN(options.ignore_crc, read_flag(read.ignore_crc, "ignore_crc"));
  FLATBED_ASSIGN(options.verify, read_enum<Verify>(read.verify, 2, "verify"));
  if (read.threads != 0) options.threads = read.threads;
  options.progress = progress_callback(read.progress, read.context);
  FLATBED_ASSIGN(options.cancel, read_cancel(read.cancel));
  return options;
}

Result<SaveTorchOptions> torch_options(const flatbed_save_options& read) {
  SaveTorchOptions options;
  FLATBED_ASSIGN(options.file, file_options(read));
  FLATBED_ASSIGN(options.unsafe_objects,
                 read_enum<UnsafeObjects>(read.unsafe_objects, 3, "unsafe_objects"));
  FLATBED_ASSIGN(options.keep_device, read_flag(read.keep_device, "keep_device"));
  return options;
}

Result<SaveSetOptions> set_options(const flatbed_save_options& read) {
  SaveSetOptions options;
  FLATBED_ASSIGN(options.file, file_options(read));
  if (read.max_shard_nbytes != 0) options.max_shard_nbytes = read.max_shard_nbytes;
  return options;
}

flatbed_save_report report_to_c(const SaveReport& from, std::uint64_t files) {
  flatbed_save_report report{};
  report.nbytes = from.nbytes;
  report.header_nbytes = from.header_nbytes;
  report.files = files;
  report.crc_checked = from.crc.checked;
  report.crc_mismatched = from.crc.mismatched;
  report.crc_unstated = from.crc.unstated;
  report.casts = from.casts.tensors;
  report.casts_saturated = from.casts.counts.saturated;
  report.casts_infinite = from.casts.counts.infinite;
  report.casts_nan = from.casts.counts.nan;
  report.chunks_reread = from.chunks_reread;
  from.content.copy(report.content, sizeof report.content - 1);
  report.durable = from.durability == Durability::committed ? 1 : 0;
  return report;
}

Result<void> write_plan(const SaveTarget& target, const SavePlan& plan,
                        const flatbed_save_options* given, flatbed_save_report* report) {
  FLATBED_ASSIGN(const flatbed_save_options read, read_options(given));
  FLATBED_ASSIGN(const Written written, write(target, plan, read));
  if (report != nullptr) fill_report(written.report, report);
  return tell(written.notes, read);
}

}  // namespace flatbed::c

using flatbed::Result;
using flatbed::c::guarded;
using flatbed::c::save_as;

int32_t flatbed_save(const char* path, const flatbed_save_plan* plan,
                     const flatbed_save_options* options, flatbed_save_report* report,
                     flatbed_error* error) {
  return guarded(error, [&]() {
    return save_as(path, FLATBED_FORMAT_SAFETENSORS, false, plan, options, report);
  });
}

int32_t flatbed_save_torch(const char* path, const flatbed_save_plan* plan,
                           const flatbed_save_options* options, flatbed_save_report* report,
                           flatbed_error* error) {
  return guarded(
      error, [&]() { return save_as(path, FLATBED_FORMAT_TORCH, false, plan, options, report); });
}

int32_t flatbed_save_set(const char* folder, const flatbed_save_plan* plan, uint32_t replace_set,
                         const flatbed_save_options* options, flatbed_save_report* report,
                         flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_ASSIGN(const bool replace, flatbed::c::read_flag(replace_set, "replace_set"));
    return save_as(folder, FLATBED_FORMAT_SET, replace, plan, options, report);
  });
}

int32_t flatbed_save_sidecar(const char* path, const flatbed_save_options* options,
                             flatbed_save_report* report, flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_ASSIGN(const std::filesystem::path file, flatbed::c::read_path(path, "path"));
    if (report != nullptr) FLATBED_TRY(flatbed::c::check_report(report, "report"));
    FLATBED_ASSIGN(const flatbed_save_options read, flatbed::c::read_options(options));
    FLATBED_ASSIGN(const flatbed::SaveOptions save_options, flatbed::c::file_options(read));
    FLATBED_ASSIGN(const flatbed::SaveReport saved, flatbed::save_sidecar(file, save_options));
    if (report != nullptr) flatbed::c::fill_report(flatbed::c::report_to_c(saved, 1), report);
    return {};
  });
}
