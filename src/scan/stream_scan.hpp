// Scans sequences of pickles (in a record, a legacy stream or a tar) for what they would import and
// call.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "flatbed/byte_source.hpp"
#include "scan/pickle_scan.hpp"
#include "scan/scan_bytes.hpp"
#include "scan/scan_log.hpp"

namespace flatbed::pth {

// Pickles in the bytes of pickles: deeper ones are not scanned, which is a finding.
inline constexpr unsigned kMaxScanDepth = 4;

struct RecordScan {
  std::string record = {};  // its name in findings
  ScanIds ids = ScanIds::torch;
  unsigned depth = 0;
  std::uint64_t begin = 0;  // offset of the first pickle
  ScanErrors errors = ScanErrors::go_on;
};

struct RecordEnd {
  std::uint64_t end = 0;  // of the last pickle that was followed
  bool legacy = false;    // the five pickles of torch.save's legacy stream; storages follow
  bool whole = false;     // each pickle was followed to its STOP
  // The keys of the storages that the first pickle names.
  std::vector<ScanText> storages = {};
};

// Scans all pickles of a record: the first, which torch.load reads, and those that follow it. Bytes
// after them are a finding, except after a legacy stream.
RecordEnd scan_record(ScanBytes& bytes, ScanLog& log, const RecordScan& scan);

// Scans a file that begins with a pickle: a legacy stream with its storages, or only pickles.
// Returns what it is.
std::string scan_pickle_file(const ByteSource& file, ScanLog& log);

// Whether Python's tarfile, and so torch.load, accepts the file as a tar: by the checksum of its
// first block.
[[nodiscard]] bool is_tar_block(std::span<const std::byte> head);

// Scans any tar. `depth` as in scan_content(). Returns what it is.
std::string scan_tar_file(const ByteSource& file, ScanLog& log, unsigned depth);

}  // namespace flatbed::pth
