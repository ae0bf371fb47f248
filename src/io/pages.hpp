// prefetch_pages(), map_pages(), release_pages(): tell the kernel which pages of a mapping are
// needed soon, and which are not. Plain functions, thread-safe.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "flatbed/result.hpp"

namespace flatbed {

// Reads every page of `bytes` into memory; `place` is for messages. Before Linux 5.14, which has no
// MADV_POPULATE_READ, it only asks for that and cannot fail. Errors: io_error where a page cannot
// be read (of a file: it was truncated, or the disk failed), resource_exhausted.
[[nodiscard]] Result<void> prefetch_pages(std::span<const std::byte> bytes, std::string_view place);

// Makes every page of a mapping readable without a fault. False where that is not possible: a page
// cannot be read, or the kernel is older than Linux 5.14.
[[nodiscard]] bool map_pages(std::span<const std::byte> mapped) noexcept;

// Takes the pages that lie wholly inside `bytes` out of the process; the next access reads them
// again. Only for mappings of files: the kernel would discard the contents of other memory. Errors:
// invalid_argument where pages are locked.
[[nodiscard]] Result<void> release_pages(std::span<const std::byte> mapped, std::string_view place);

}  // namespace flatbed
