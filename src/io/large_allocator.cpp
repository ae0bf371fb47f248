#include "io/large_allocator.hpp"

#include <sys/mman.h>

#include <cstdint>

namespace flatbed {

namespace {

constexpr std::size_t kHugePage = 2 << 20;

}  // namespace

void prefer_huge_pages(void* memory, std::size_t nbytes) noexcept {
  const auto address = reinterpret_cast<std::uintptr_t>(memory);
  const std::size_t skip = (kHugePage - address % kHugePage) % kHugePage;
  if (nbytes < skip + kHugePage) return;
  // Omits the tail, because the memory after the block is not ours.
  madvise(static_cast<std::byte*>(memory) + skip, (nbytes - skip) / kHugePage * kHugePage,
          MADV_HUGEPAGE);
}

namespace {

// A last part of this size is worth a huge page of its own: clearing one takes as long as one or
// two hundred page faults.
constexpr std::size_t kWorthHugePage = 768 << 10;

std::size_t with_tail(std::size_t nbytes) {
  const std::size_t tail = nbytes % kHugePage;
  const std::size_t missing = tail >= kWorthHugePage ? kHugePage - tail : 0;
  return nbytes <= SIZE_MAX - missing ? nbytes + missing : nbytes;
}

}  // namespace

void* allocate_large(std::size_t nbytes) {
  void* memory = ::operator new (with_tail(nbytes), std::align_val_t{kHugePage});
  prefer_huge_pages(memory, with_tail(nbytes));
  return memory;
}

LargeBlock try_allocate_large(std::size_t nbytes) noexcept {
  void* memory = ::operator new (with_tail(nbytes), std::align_val_t{kHugePage}, std::nothrow);
  if (memory != nullptr) prefer_huge_pages(memory, with_tail(nbytes));
  return LargeBlock(static_cast<std::byte*>(memory));
}

void free_large(void* memory) noexcept { ::operator delete (memory, std::align_val_t{kHugePage}); }

}  // namespace flatbed
