// scan(): what the pickles in a model file would import and call if Python loaded them.
//
//   FLATBED_ASSIGN(const ScanReport report, scan("model.pth"));
//   if (report.verdict == ScanVerdict::dangerous) use(report.findings);
//
// Reading a file with flatbed runs none of its code. A scan is for files that others will load with
// torch.load or pickle.load. It follows each pickle as Python does, but calls nothing, and
// continues where flatbed's readers refuse: it is made for damaged, ambiguous and hostile files.
// What it cannot see is never plain.
//
// It cannot promise that an `unknown` file is harmless, because that depends on the code of the
// named classes. Nor does a `plain` verdict mean that the values are what the author claims, or
// that the loader has no bugs.
//
// Memory and time are bounded: linear in the size of the file. Thread-safe.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "flatbed/byte_source.hpp"
#include "flatbed/export.hpp"
#include "flatbed/result.hpp"
#include "flatbed/scan_finding.hpp"

namespace flatbed {

struct ScanOptions {
  // Borrowed. Any thread may set it; the scan then ends with `cancelled`, even within a pickle or
  // record.
  const std::atomic<bool>* cancel = nullptr;
};

struct ScannedFile {
  std::filesystem::path path;
  ScanVerdict verdict = ScanVerdict::plain;
  std::string what;           // the kind of file: "a zip of torch.save"
  std::uint64_t pickles = 0;  // number of pickles that were followed
};

struct ScanReport {
  ScanVerdict verdict = ScanVerdict::plain;  // the worst of all findings
  std::vector<ScanFinding> findings;         // the worst first; at most 10,000 of each severity
  bool findings_complete = true;             // false: there are more, which the verdict includes
  std::vector<ScannedFile> files;            // one, or the shards of a set
};

// Scans a file, each shard that an index names, or each file of a directory. Errors: those of the
// system (1-9), index_* and shard_* for a set that cannot be followed, cancelled. Every fault
// inside a file is a finding.
[[nodiscard]] FLATBED_EXPORT Result<ScanReport> scan(const std::filesystem::path& path,
                                                     const ScanOptions& options = {});
// Scans the one file in `source`. An index among such files counts as a JSON text.
[[nodiscard]] FLATBED_EXPORT Result<ScanReport> scan(const ByteSource& source,
                                                     const ScanOptions& options = {});

}  // namespace flatbed
