// Verifying, in flatbed.h.
#include "flatbed/verify.hpp"

#include "c/callbacks.hpp"
#include "c/checkpoints.hpp"
#include "c/guard.hpp"
#include "c/series_results.hpp"

namespace flatbed::c {

namespace {

Result<void> tell(const VerifyReport& found, const flatbed_verify_options& options) {
  if (options.damaged == nullptr) return {};
  for (const DamagedRange& from : found.damaged) {
    flatbed_damaged_range range{};
    range.struct_size = sizeof range;
    range.file = from.file;
    range.tensor = from.tensor;
    range.begin = from.begin;
    range.end = from.end;
    FLATBED_TRY(callback_result(options.damaged(options.context, &range), "the caller's damaged",
                                ErrorCode::cancelled));
  }
  return {};
}

}  // namespace

flatbed_verify_report report_to_c(const VerifyReport& found) {
  flatbed_verify_report report{};
  report.bytes_checked = found.bytes_checked;
  report.chunks_checked = found.chunks_checked;
  report.chunks_reread = found.chunks_reread;
  report.damaged = found.damaged.size();
  report.crc_checked = found.crc.checked;
  report.crc_mismatched = found.crc.mismatched;
  report.crc_unstated = found.crc.unstated;
  report.unchecked_files = found.crc.unchecked_files;
  report.damaged_complete = found.damaged_complete ? 1 : 0;
  return report;
}

}  // namespace flatbed::c

using flatbed::Result;

int32_t flatbed_verify(const flatbed_checkpoint* checkpoint, const flatbed_verify_options* options,
                       flatbed_verify_report* report, flatbed_error* error) {
  return flatbed::c::guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(flatbed::c::check(checkpoint, "checkpoint"));
    if (report != nullptr) FLATBED_TRY(flatbed::c::check_report(report, "report"));
    FLATBED_ASSIGN(const flatbed_verify_options read, flatbed::c::read_options(options));
    flatbed::VerifyOptions verify_options;
    if (read.threads != 0) verify_options.threads = read.threads;
    verify_options.progress = flatbed::c::progress_callback(read.progress, read.context);
    FLATBED_ASSIGN(verify_options.cancel, flatbed::c::read_cancel(read.cancel));
    FLATBED_ASSIGN(const flatbed::VerifyReport found,
                   flatbed::verify(checkpoint->checkpoint, verify_options));
    if (report != nullptr) flatbed::c::fill_report(flatbed::c::report_to_c(found), report);
    return flatbed::c::tell(found, read);
  });
}
