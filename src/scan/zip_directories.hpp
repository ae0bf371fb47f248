// The central directories of a zip that some reader could use: for each end record, where it says
// and where it should be. For scans only; zip_end.hpp finds the directory by which files are read.
#pragma once

#include <cstdint>
#include <vector>

#include "flatbed/byte_source.hpp"
#include "flatbed/result.hpp"
#include "scan/scan_log.hpp"

namespace flatbed::pth {

struct ZipDirectory {
  std::uint64_t offset = 0;
  std::uint64_t nbytes = 0;  // within the file
  std::uint64_t count = 0;   // of its entries, as stated by the end record
  std::uint64_t shift = 0;   // added to offsets in it: the number of bytes before the zip
};

struct ZipDirectories {
  std::vector<ZipDirectory> found;  // those of the last end record first
  std::uint64_t end = 0;            // offset after the last end record and its comment
  std::uint64_t last = 0;           // offset of the records of the last end
};

// Logs what readers disagree on. Errors: those of File::read_at.
[[nodiscard]] Result<ZipDirectories> find_directories(const ByteSource& file, ScanLog& log);

}  // namespace flatbed::pth
