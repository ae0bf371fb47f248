// CrcReport: the result of checking the records of a PyTorch zip against its CRC-32 sums.
//
// torch writes these sums but never checks them. After set_crc32_options(False) it writes 0 for
// every record, and under skip_data() for every storage, so a storage that states 0 states no sum.
// verify() and the two writers, save() and save_torch(), fill in a report. The writers return an
// error where a record does not match, unless ignore_crc is set. Files of other layouts have no
// sums and do not count. Plain data.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "flatbed/export.hpp"

namespace flatbed {

// A record whose bytes do not match the sum in the zip's central directory.
struct CrcMismatch {
  std::filesystem::path file;
  std::string record;        // "archive/data/3", any bytes
  std::uint32_t stated = 0;  // the sum that the file states
  std::uint32_t found = 0;   // the sum of the bytes after inflating
};

struct CrcReport {
  std::uint64_t checked = 0;            // records whose every byte was read and compared
  std::uint64_t read_in_part = 0;       // records that were used in part and not checked
  std::uint64_t mismatched = 0;         // of the checked ones
  std::uint64_t unstated = 0;           // storages that state 0 and were not checked
  std::vector<CrcMismatch> mismatches;  // the first 10,000 of them, in the order of the files
  // Zips that state 0 for every record, which were not checked.
  std::vector<std::filesystem::path> without;
  // By verify() only: files without a seal whose layout states no CRCs; nothing checks them.
  std::uint64_t unchecked_files = 0;
};

}  // namespace flatbed
