// Scanning, in flatbed.h.
#include "flatbed/scan.hpp"

#include "c/callbacks.hpp"
#include "c/caller_source.hpp"
#include "c/guard.hpp"

namespace flatbed::c {

namespace {

static_assert(static_cast<int>(ScanVerdict::plain) == FLATBED_VERDICT_PLAIN &&
              static_cast<int>(ScanVerdict::unknown) == FLATBED_VERDICT_UNKNOWN &&
              static_cast<int>(ScanVerdict::dangerous) == FLATBED_VERDICT_DANGEROUS);

flatbed_finding finding_to_c(const ScanFinding& from, const ScanReport& report) {
  flatbed_finding finding{};
  finding.struct_size = sizeof finding;
  finding.kind = to_c(name(from.kind));
  finding.module = to_c(std::string_view(from.module));
  finding.qualname = to_c(std::string_view(from.qualname));
  finding.record = to_c(std::string_view(from.record));
  finding.text = to_c(std::string_view(from.text));
  if (from.file < report.files.size()) {
    finding.file = to_c(std::string_view(report.files[from.file].path.native()));
  }
  finding.offset = from.offset;
  finding.opcode = from.opcode;
  finding.count = from.count;
  finding.severity = static_cast<std::uint32_t>(from.severity);
  return finding;
}

flatbed_scanned_file file_to_c(const ScannedFile& from) {
  flatbed_scanned_file file{};
  file.struct_size = sizeof file;
  file.path = to_c(std::string_view(from.path.native()));
  file.what = to_c(std::string_view(from.what));
  file.pickles = from.pickles;
  file.verdict = static_cast<std::uint32_t>(from.verdict);
  file.scanned = from.scanned ? 1 : 0;
  return file;
}

Result<void> tell(const ScanReport& found, const flatbed_scan_options& options) {
  if (options.finding != nullptr) {
    for (const ScanFinding& entry : found.findings) {
      const flatbed_finding finding = finding_to_c(entry, found);
      FLATBED_TRY(callback_result(options.finding(options.context, &finding),
                                  "the caller's finding", ErrorCode::cancelled));
    }
  }
  if (options.file == nullptr) return {};
  for (const ScannedFile& entry : found.files) {
    const flatbed_scanned_file file = file_to_c(entry);
    FLATBED_TRY(callback_result(options.file(options.context, &file), "the caller's file",
                                ErrorCode::cancelled));
  }
  return {};
}

// Scans what `run` scans with the options that it is given.
template <typename Run>
Result<void> scan_with(const flatbed_scan_options* given, flatbed_scan_report* report, Run run) {
  if (report != nullptr) FLATBED_TRY(check_report(report, "report"));
  FLATBED_ASSIGN(const flatbed_scan_options read, read_options(given));
  ScanOptions options;
  FLATBED_ASSIGN(options.recursive, read_flag(read.recursive, "recursive"));
  FLATBED_ASSIGN(options.cancel, read_cancel(read.cancel));
  FLATBED_ASSIGN(const ScanReport found, run(options));
  flatbed_scan_report filled{};
  filled.findings = found.findings.size();
  filled.files = found.files.size();
  filled.verdict = static_cast<std::uint32_t>(found.verdict);
  filled.findings_complete = found.findings_complete ? 1 : 0;
  if (report != nullptr) fill_report(filled, report);
  return tell(found, read);
}

}  // namespace

}  // namespace flatbed::c

using flatbed::Result;
using flatbed::ScanOptions;
using flatbed::c::guarded;

int32_t flatbed_scan(const char* path, const flatbed_scan_options* options,
                     flatbed_scan_report* report, flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_ASSIGN(const std::filesystem::path file, flatbed::c::read_path(path, "path"));
    return flatbed::c::scan_with(
        options, report, [&](const ScanOptions& read) { return flatbed::scan(file, read); });
  });
}

int32_t flatbed_scan_reader(const flatbed_reader* reader, const flatbed_scan_options* options,
                            flatbed_scan_report* report, flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_ASSIGN(const std::shared_ptr<flatbed::c::CallerSource> source,
                   flatbed::c::CallerSource::make(reader));
    return flatbed::c::scan_with(
        options, report, [&](const ScanOptions& read) { return flatbed::scan(*source, read); });
  });
}
