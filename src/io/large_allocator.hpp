// LargeAllocator: a standard allocator for large arrays. Touching fresh memory costs a fault per
// page, which with 4 KiB pages is most of the time that opening a large checkpoint takes: it asks
// for huge pages. The kernel copies at half speed to a buffer that begins 16 bytes into a page, as
// malloc's large blocks do, so it aligns. Thread-safe, like operator new.
//
// Blocks for data that is read from files: ByteBuffer, and LargeBlock for callers that report
// running out of memory as an error.
#pragma once

#include <cstddef>
#include <memory>
#include <new>
#include <utility>
#include <vector>

namespace flatbed {

// Memory for `nbytes`, aligned to 2 MiB and backed by huge pages where the kernel gives them. Ends
// as operator new does when there is none. Free with free_large().
[[nodiscard]] void* allocate_large(std::size_t nbytes);
void free_large(void* memory) noexcept;

template <typename T>
struct LargeAllocator {
  using value_type = T;
  static constexpr std::size_t kLarge = 256 * 1024;  // bytes from which on a block is large

  LargeAllocator() = default;
  template <typename U>
  LargeAllocator(const LargeAllocator<U>&) noexcept {}  // NOLINT: allocators convert

  [[nodiscard]] T* allocate(std::size_t count) {
    const std::size_t nbytes = count * sizeof(T);  // count comes from vector, which has checked it
    return static_cast<T*>(nbytes >= kLarge ? allocate_large(nbytes) : ::operator new(nbytes));
  }
  void deallocate(T* memory, std::size_t count) noexcept {
    if (count * sizeof(T) >= kLarge) {
      free_large(memory);
    } else {
      ::operator delete(memory);
    }
  }
  // Elements are not zeroed by resize(): bytes that are about to be read into need no first pass.
  template <typename U>
  void construct(U* at) noexcept {
    ::new (static_cast<void*>(at)) U;
  }
  template <typename U, typename... Arguments>
  void construct(U* at, Arguments&&... arguments) {
    ::new (static_cast<void*>(at)) U(std::forward<Arguments>(arguments)...);
  }
  bool operator==(const LargeAllocator&) const = default;
};

template <typename T>
using LargeVector = std::vector<T, LargeAllocator<T>>;

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
