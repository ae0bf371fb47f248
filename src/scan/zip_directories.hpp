// The central directories of a zip that readers could take: of each end record, where it says and
// where it should be. For scans; zip_end.hpp finds the one that files are read with.
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
  std::uint64_t count = 0;   // of its entries, as the end record says
  std::uint64_t shift = 0;   // what offsets in it are short of: bytes before the zip
};

struct ZipDirectories {
  std::vector<ZipDirectory> found;  // the last end record's first
  std::uint64_t end = 0;            // behind the last end record and its comment
  std::uint64_t last = 0;           // where the records of the last end begin
};

// Logs what readers differ in. Errors: those of File::read_at.
[[nodiscard]] Result<ZipDirectories> find_directories(const ByteSource& file, ScanLog& log);

}  // namespace flatbed::pth
