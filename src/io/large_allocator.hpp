// Blocks for what is read from files: ByteBuffer, and LargeBlock where running out of memory is an
// error to report. See flatbed/large_allocator.hpp.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "flatbed/large_allocator.hpp"

namespace flatbed {

// allocate_large() for whom a failure is an error to report: null when there is no memory.
struct FreeLarge {
  void operator()(std::byte* memory) const noexcept { free_large(memory); }
};
using LargeBlock = std::unique_ptr<std::byte, FreeLarge>;
[[nodiscard]] LargeBlock try_allocate_large(std::size_t nbytes) noexcept;

// Asks for huge pages for the whole ones within the block, which must not be touched yet. A hint.
void prefer_huge_pages(void* memory, std::size_t nbytes) noexcept;

// Bytes whose resize() leaves new ones uninitialised.
using ByteBuffer = LargeVector<std::byte>;

}  // namespace flatbed
