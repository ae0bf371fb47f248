// scan(): what the pickles in a model file would import and call if Python loaded them.
//
//   FLATBED_ASSIGN(const ScanReport report, scan("model.pth"));
//   if (report.verdict == ScanVerdict::dangerous) use(report.findings);
//
// Reading a file with flatbed runs nothing of it, whatever it holds; a scan is for files that
// others will load: torch.load, pickle.load. It follows each pickle as Python does, but calls
// nothing, and goes on where flatbed's readers refuse: damaged, ambiguous and hostile files are
// what it is for. What it cannot see is never plain.
//
// It cannot promise that an `unknown` file is harmless: that depends on the code of the classes
// named. Nor does a `plain` verdict say that the values are what the file's author claims, or speak
// of bugs in the loader itself.
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
  // Borrowed; any thread may set it. The scan then ends with `cancelled`, within a pickle or
  // record.
  const std::atomic<bool>* cancel = nullptr;
};

struct ScannedFile {
  std::filesystem::path path;
  ScanVerdict verdict = ScanVerdict::plain;
  std::string what;           // what the file is: "a zip of torch.save"
  std::uint64_t pickles = 0;  // that were followed
};

struct ScanReport {
  ScanVerdict verdict = ScanVerdict::plain;  // the worst of all findings
  std::vector<ScanFinding> findings;         // the worst first; at most 10,000 of each severity
  bool findings_complete = true;             // false: there are more, which the verdict counts
  std::vector<ScannedFile> files;            // one, or the shards of a set
};

// Scans a file, each shard that an index names, or each file of a directory. Errors: the system's
// (1-9), index_* and shard_* of a set that cannot be followed, cancelled. Everything that is wrong
// inside a file is a finding.
[[nodiscard]] FLATBED_EXPORT Result<ScanReport> scan(const std::filesystem::path& path,
                                                     const ScanOptions& options = {});
// Scans the one file that `source` has the bytes of; an index among such files is a JSON text.
[[nodiscard]] FLATBED_EXPORT Result<ScanReport> scan(const ByteSource& source,
                                                     const ScanOptions& options = {});

}  // namespace flatbed
