// CrcReport: what the CRC-32 sums that a PyTorch zip states say about the bytes of its records.
//
// torch states them and never looks at them, and after set_crc32_options(False) it writes 0 for
// every record. So a sum that does not fit is a finding, not an error, unless strict_crc is asked
// for. verify() and the two writers, save() and save_torch(), fill these in; files of other layouts
// state no sums and have no part in them. Plain data.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "flatbed/export.hpp"

namespace flatbed {

// A record whose bytes do not have the sum that the zip's central directory states.
struct CrcMismatch {
  std::filesystem::path file;
  std::string record;        // "archive/data/3", any bytes
  std::uint32_t stated = 0;  // by the file
  std::uint32_t found = 0;   // of the bytes, inflated
};

struct CrcReport {
  std::uint64_t checked = 0;            // records whose every byte was read and summed
  std::uint64_t read_in_part = 0;       // records of which a part was used, and not checked
  std::uint64_t mismatched = 0;         // of those checked
  std::vector<CrcMismatch> mismatches;  // the first 10,000 of them, file by file as they lie there
  std::vector<std::filesystem::path> without;  // zips that state 0 for every record: not checked
};

}  // namespace flatbed
