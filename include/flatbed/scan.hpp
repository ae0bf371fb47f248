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
// Gzip, zlib, xz and lzma files are unpacked into memory and scanned; files in a zip or tar are
// scanned too, four levels deep. Other compressed files are unknown.
//
// Memory and time are linear in the size of the file. A scan needs at most 256 MiB and, for each
// byte that the file has on the disk, 1 byte if it is a storage's, 16 if it is JSON, 40 if it is a
// pickle's, and 128 if it is compressed. A compressed file is unpacked up to 32 MiB or 16 times its
// size, a deflated pickle followed up to 16 MiB or 64 times its size, and JSON inside another file
// parsed up to 8 MiB. What these limits leave out is unknown. Thread-safe.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "flatbed/byte_source.hpp"
#include "flatbed/export.hpp"
#include "flatbed/result.hpp"
#include "flatbed/scan_finding.hpp"
#include "flatbed/source_folder.hpp"

namespace flatbed {

struct ScanOptions {
  // Borrowed. Any thread may set it; the scan then ends with `cancelled`, even within a pickle or
  // record.
  const std::atomic<bool>* cancel = nullptr;
  // Of a folder, scans the files of the folders in it too. Links to folders are not followed.
  bool recursive = false;
};

struct ScannedFile {
  std::filesystem::path path;
  ScanVerdict verdict = ScanVerdict::plain;
  std::string what;           // the kind of file: "a zip of torch.save"
  std::uint64_t pickles = 0;  // number of pickles that were followed
  bool scanned = true;        // false: a folder, a missing file or the like, which is unknown
};

struct ScanReport {
  ScanVerdict verdict = ScanVerdict::plain;  // the worst of all findings
  std::vector<ScanFinding> findings;         // the worst first; at most 10,000 of each severity
  bool findings_complete = true;             // false: there are more, which the verdict includes
  std::vector<ScannedFile> files;            // one, the files of an index, or those of a folder
};

// Scans a file, each file that an index names, or each file of a folder and each that an index in
// it names. A JSON text with a weight_map is an index, whatever its name. What is in the folder and
// was not scanned is in `files` and unknown: folders (see `recursive`), links that lead nowhere,
// files that cannot be read, and names of an index that lead elsewhere. Errors: those of the system
// (1-9) for the path itself, shard_missing for an index, cancelled. Every fault inside a file is a
// finding.
[[nodiscard]] FLATBED_EXPORT Result<ScanReport> scan(const std::filesystem::path& path,
                                                     const ScanOptions& options = {});
// The same of a folder that is not local: the file `name` and what it names if it is an index, or
// without a name each of the folder's names(). Its folders() are not scanned, not even with
// `recursive`, and are unknown. So is what it may have besides its names(), if it does not list all
// (lists_all()). Errors: those of the folder for these, file_not_found (the folder is empty),
// shard_missing, cancelled.
[[nodiscard]] FLATBED_EXPORT Result<ScanReport> scan(const SourceFolder& folder,
                                                     std::string_view name,
                                                     const ScanOptions& options = {});
// Scans the one file in `source`. An index is unknown, since its files are not at hand.
[[nodiscard]] FLATBED_EXPORT Result<ScanReport> scan(const ByteSource& source,
                                                     const ScanOptions& options = {});

}  // namespace flatbed
