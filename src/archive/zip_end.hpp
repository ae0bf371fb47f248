// find_zip_end(): finds the central directory of a zip file from its end record. Stateless.
#pragma once

#include <cstdint>

#include "flatbed/byte_source.hpp"
#include "flatbed/result.hpp"

namespace flatbed::pth {

struct ZipEnd {
  std::uint64_t directory_offset = 0;
  std::uint64_t directory_nbytes = 0;
  std::uint64_t entry_count = 0;
  std::uint64_t trailing_nbytes = 0;  // bytes of the file after the end record and its comment
};

// Errors: zip_end_missing, zip_end_ambiguous, zip64_malformed, zip_directory_malformed, and those
// of File::read_at.
[[nodiscard]] Result<ZipEnd> find_zip_end(const ByteSource& file);

}  // namespace flatbed::pth
