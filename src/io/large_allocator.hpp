// Blocks for data that is read from files: ByteBuffer, and LargeBlock for callers that report
// running out of memory as an error. See flatbed/large_allocator.hpp.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "flatbed/large_allocator.hpp"

namespace flatbed {

// allocate_large() for callers that report a failure as an error: returns null if out of memory.
struct FreeLarge {
  void operator()(std::byte* memory) const noexcept { free_large(memory); }
};
using LargeBlock = std::unique_ptr<std::byte, FreeLarge>;
[[nodiscard]] LargeBlock try_allocate_large(std::size_t nbytes) noexcept;

// Asks for huge pages for the whole pages within the block, which must be untouched. It is a hint.
void prefer_huge_pages(void* memory, std::size_t nbytes) noexcept;

// Bytes whose resize() leaves new ones uninitialized.
using ByteBuffer = LargeVector<std::byte>;

}  // namespace flatbed
