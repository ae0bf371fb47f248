// list_zip(): every entry that any reader could see in a zip, and what readers differ in. For scans
// alone: it refuses nothing, and logs each ambiguity. ZipArchive, which takes one reading or none,
// is what files are read with.
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
  // False: what a reader sees that goes by local headers, and no directory does.
  bool listed = true;
  bool inside = true;  // the data lies in the file
};

// The views of all directories, in their order, then those of local headers that say something else
// or that no directory lists. Errors: those of File::read_at.
[[nodiscard]] Result<std::vector<ZipView>> list_zip(const ByteSource& file, ScanLog& log);

// Whether the end of the file is that of a zip, as readers find it who do not look at its
// beginning.
[[nodiscard]] bool ends_like_zip(const ByteSource& file);

}  // namespace flatbed::pth
