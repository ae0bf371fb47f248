// list_zip(): lists every entry that any reader could see in a zip, and what readers disagree on.
// For scans only: it refuses nothing and logs each ambiguity. Files are read through ZipArchive,
// which accepts exactly one reading.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "flatbed/byte_source.hpp"
#include "flatbed/result.hpp"
#include "scan/scan_log.hpp"

namespace flatbed::pth {

struct ZipView {
  std::string name;
  std::uint64_t header_offset = 0;  // of the local header
  std::uint64_t data_offset = 0;
  std::uint64_t stored_nbytes = 0;
  std::uint64_t nbytes = 0;
  std::uint32_t crc = 0;
  std::uint16_t flags = 0;
  std::uint16_t method = 0;
  // False for an entry that only readers of local headers see, and no directory lists.
  bool listed = true;
  bool inside = true;  // the data lies in the file
};

// The views of all directories, in their order, then those of local headers that disagree or that
// no directory lists. Errors: those of File::read_at.
[[nodiscard]] Result<std::vector<ZipView>> list_zip(const ByteSource& file, ScanLog& log);

// Whether the end of the file is that of a zip, for readers that do not look at its beginning.
[[nodiscard]] bool ends_like_zip(const ByteSource& file);

}  // namespace flatbed::pth
