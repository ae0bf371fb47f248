// check_local_headers(): reads the local headers of all entries and compares them with the central
// directory.
#pragma once

#include <cstdint>
#include <span>

#include "archive/zip_entry.hpp"
#include "flatbed/byte_source.hpp"
#include "flatbed/result.hpp"

namespace flatbed::pth {

// Sets data_offset of each entry. Reads little more than the headers: neighbours share a read, and
// the data between distant ones is not touched. The names of `entries` point into the central
// directory, which begins at `directory_offset` of the file. Errors: zip_local_mismatch,
// zip_out_of_bounds, zip_overlap, zip64_malformed, zip_directory_malformed, and those of
// File::read_at.
[[nodiscard]] Result<void> check_local_headers(const ByteSource& file, std::span<ZipEntry> entries,
                                               std::uint64_t directory_offset);

}  // namespace flatbed::pth
