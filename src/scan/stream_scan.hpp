// What lies one behind the other: the pickles of a record, of a legacy stream and of a tar, scanned
// for what they would import and call.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "flatbed/byte_source.hpp"
#include "scan/pickle_scan.hpp"
#include "scan/scan_bytes.hpp"
#include "scan/scan_log.hpp"

namespace flatbed::pth {

// Pickles in the bytes of pickles: deeper ones are not looked into, which is said.
inline constexpr unsigned kMaxScanDepth = 4;

struct RecordScan {
  std::string record = {};  // in findings
  ScanIds ids = ScanIds::torch;
  unsigned depth = 0;
};

struct RecordEnd {
  std::uint64_t end = 0;  // of the last pickle that was followed
  bool legacy = false;    // the five pickles of torch.save's legacy stream; storages follow
  bool whole = false;     // each pickle was followed to its STOP
};

// All pickles of a record: the first, which torch.load reads, and those that follow it. Bytes after
// them are a finding, except after a legacy stream's.
RecordEnd scan_record(ScanBytes& bytes, ScanLog& log, const RecordScan& scan);

// A file that begins with a pickle: a legacy stream with its storages, or pickles alone.
// Returns what it is.
std::string scan_pickle_file(const ByteSource& file, ScanLog& log);

// Whether Python's tarfile, and so torch.load, takes the file for a tar: by the sum of its first
// block.
[[nodiscard]] bool is_tar_block(std::span<const std::byte> head);

// A tar of torch.save or of anyone. Returns what it is.
std::string scan_tar_file(const ByteSource& file, ScanLog& log);

}  // namespace flatbed::pth
