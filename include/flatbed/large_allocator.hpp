// LargeAllocator: a standard allocator for large arrays. Touching fresh memory costs a fault per
// page. With 4 KiB pages this is most of the time it takes to open a large checkpoint, so it asks
// for huge pages. The kernel also copies at half speed to a buffer that begins 16 bytes into a
// page, as malloc's large blocks do, so it aligns. Used by the library's own containers, such as
// ValueTree. Thread-safe, like operator new.
#pragma once

#include <cstddef>
#include <new>
#include <utility>
#include <vector>

#include "flatbed/export.hpp"

namespace flatbed {

// Memory for `nbytes`, aligned to 2 MiB and backed by huge pages if the kernel gives them. Fails as
// operator new does. Free with free_large().
[[nodiscard]] FLATBED_EXPORT void* allocate_large(std::size_t nbytes);
FLATBED_EXPORT void free_large(void* memory) noexcept;

template <typename T>
struct LargeAllocator {
  using value_type = T;
  static constexpr std::size_t kLarge = 256 * 1024;  // a block of at least this many bytes is large

  LargeAllocator() = default;
  template <typename U>
  LargeAllocator(const LargeAllocator<U>&) noexcept {}  // NOLINT: allocators convert

  [[nodiscard]] T* allocate(std::size_t count) {
    const std::size_t nbytes = count * sizeof(T);  // vector has checked count
    return static_cast<T*>(nbytes >= kLarge ? allocate_large(nbytes) : ::operator new(nbytes));
  }
  void deallocate(T* memory, std::size_t count) noexcept {
    if (count * sizeof(T) >= kLarge) {
      free_large(memory);
    } else {
      ::operator delete(memory);
    }
  }
  // resize() does not zero elements: bytes that are about to be read into need no first pass.
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

}  // namespace flatbed
