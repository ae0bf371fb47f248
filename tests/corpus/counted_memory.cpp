#include "corpus/counted_memory.hpp"

#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <new>

#include "support/sanitizers.hpp"

namespace flatbed::corpus {

namespace {

std::atomic<std::uint64_t> live{0};
std::atomic<std::uint64_t> peak{0};

[[maybe_unused]] void* counted(void* memory) {
  if (memory == nullptr) std::abort();
  const std::uint64_t now = live += malloc_usable_size(memory);
  std::uint64_t before = peak;
  while (now > before && !peak.compare_exchange_weak(before, now)) {
  }
  return memory;
}

[[maybe_unused]] void uncounted(void* memory) noexcept {
  if (memory == nullptr) return;
  live -= malloc_usable_size(memory);
  std::free(memory);
}

}  // namespace

std::uint64_t live_bytes() noexcept { return live; }
std::uint64_t peak_bytes() noexcept { return peak; }
void reset_peak() noexcept { peak = live.load(); }

}  // namespace flatbed::corpus

// Sanitizers have their own, which find more.
#if !FLATBED_SANITIZED
void* operator new(std::size_t nbytes) {
  return flatbed::corpus::counted(std::malloc(std::max<std::size_t>(nbytes, 1)));
}
void* operator new(std::size_t nbytes, std::align_val_t alignment) {
  void* memory = nullptr;  // aligned_alloc would want whole units, which nobody asked for
  const int error = posix_memalign(&memory, static_cast<std::size_t>(alignment),
                                   std::max<std::size_t>(nbytes, 1));
  return flatbed::corpus::counted(error == 0 ? memory : nullptr);
}
void operator delete(void* memory) noexcept { flatbed::corpus::uncounted(memory); }
void operator delete(void* memory, std::size_t) noexcept { flatbed::corpus::uncounted(memory); }
void operator delete(void* memory, std::align_val_t) noexcept {
  flatbed::corpus::uncounted(memory);
}
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
  flatbed::corpus::uncounted(memory);
}
#endif
