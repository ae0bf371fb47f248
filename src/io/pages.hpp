// prefetch_pages(), map_pages(), release_pages(): tell the kernel which pages of a mapping are
// needed soon, and which are not. new_mappings_are_locked(). Plain functions, thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "flatbed/result.hpp"

namespace flatbed {

// Reads every page of `bytes` into memory; `place` is for messages. Before Linux 5.14, which has no
// MADV_POPULATE_READ, it only asks for that and cannot fail. Errors: io_error where a page cannot
// be read (of a file: it was truncated, or the disk failed), resource_exhausted.
[[nodiscard]] Result<void> prefetch_pages(std::span<const std::byte> bytes, std::string_view place);

// How to ask the kernel for the pages of a mapping. Which way is faster depends on the units
// (folios) in which the page cache has the file. Microseconds for 2 MiB, on Zen 4 with Linux 6.18,
// of a file
//
//                       on tmpfs   on ext4: copied   converted   read from the disk
//   MapBy::neighbours         95                57          31                   16
//     with a call for each   108                74          43                   30
//   MapBy::range             152               119          85                    6
enum class MapBy : std::uint8_t {
  neighbours,  // for one in 16: it maps their neighbours with them
  range,       // for all: it goes through them one by one
};

// Makes a mapping of a file, which must not end before it, readable without a wait for the disk:
// its pages are in memory, and most of them in the page table. False where that is not possible: a
// page cannot be read, or the kernel is older than Linux 5.14. (mincore(2) does not tell who
// neither owns the file nor may write to it what the page cache has; then some may be left.)
[[nodiscard]] bool map_pages(std::span<const std::byte> mapped, MapBy way) noexcept;

// Takes the pages that lie wholly inside `bytes` out of the process; the next access reads them
// again. Only for mappings of files: the kernel would discard the contents of other memory. Errors:
// invalid_argument where pages are locked.
[[nodiscard]] Result<void> release_pages(std::span<const std::byte> mapped, std::string_view place);

// Whether every mapping that this process makes is read into memory as a whole and stays there:
// mlockall(2), MCL_FUTURE.
[[nodiscard]] bool new_mappings_are_locked() noexcept;

}  // namespace flatbed
