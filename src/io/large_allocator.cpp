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
  // The tail is left out: a whole huge page for it would cost more memory than it saves time.
  madvise(static_cast<std::byte*>(memory) + skip, (nbytes - skip) / kHugePage * kHugePage,
          MADV_HUGEPAGE);
}

void* allocate_large(std::size_t nbytes) {
  void* memory = ::operator new (nbytes, std::align_val_t{kHugePage});
  prefer_huge_pages(memory, nbytes);
  return memory;
}

LargeBlock try_allocate_large(std::size_t nbytes) noexcept {
  void* memory = ::operator new (nbytes, std::align_val_t{kHugePage}, std::nothrow);
  if (memory != nullptr) prefer_huge_pages(memory, nbytes);
  return LargeBlock(static_cast<std::byte*>(memory));
}

void free_large(void* memory) noexcept { ::operator delete (memory, std::align_val_t{kHugePage}); }

}  // namespace flatbed
