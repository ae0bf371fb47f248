#include "io/pages.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "base/str_cat.hpp"
#include "io/system_error.hpp"

namespace flatbed {

namespace {

// Newer than the declarations of some C libraries. The number is the same on every architecture.
constexpr int kPopulateRead = 22;

std::size_t page_nbytes() { return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)); }

// The bytes between the start of their page, or of the page they end in, and `at`.
std::size_t into_page(const std::byte* at) {
  return reinterpret_cast<std::uintptr_t>(at) % page_nbytes();
}

}  // namespace

Result<void> prefetch_pages(std::span<const std::byte> bytes, std::string_view place) {
  if (bytes.empty()) return {};
  const std::size_t before = into_page(bytes.data());
  auto* const begin = const_cast<std::byte*>(bytes.data()) - before;
  const std::size_t nbytes = before + bytes.size();  // the kernel rounds the end up
  if (::madvise(begin, nbytes, kPopulateRead) == 0) return {};
  if (errno == EFAULT)
    return make_error(ErrorCode::io_error, place, ": pages of the mapping cannot be read");
  if (errno != EINVAL) return system_error(errno, str_cat(place, ": reading ahead"));
  ::madvise(begin, nbytes, MADV_WILLNEED);  // a hint
  return {};
}

bool map_pages(std::span<const std::byte> mapped) noexcept {
  const std::size_t before = into_page(mapped.data());
  auto* const begin = const_cast<std::byte*>(mapped.data()) - before;
  return ::madvise(begin, before + mapped.size(), kPopulateRead) == 0;
}

Result<void> release_pages(std::span<const std::byte> mapped, std::string_view place) {
  const std::size_t page = page_nbytes();
  const std::size_t skip = (page - into_page(mapped.data())) % page;
  if (mapped.size() < skip + page) return {};
  const std::size_t nbytes = (mapped.size() - skip) / page * page;
  auto* const begin = const_cast<std::byte*>(mapped.data()) + skip;
  if (::madvise(begin, nbytes, MADV_DONTNEED) == 0) return {};
  if (errno == EINVAL)
    return make_error(ErrorCode::invalid_argument, place, ": locked pages cannot be released");
  return system_error(errno, str_cat(place, ": releasing pages"));
}

}  // namespace flatbed
