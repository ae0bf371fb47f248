#include "io/pages.hpp"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>

#include "base/str_cat.hpp"
#include "io/system_error.hpp"

namespace flatbed {

namespace {

// Newer than the declarations of some C libraries. The number is the same on every architecture.
constexpr int kPopulateRead = 22;

// process_madvise(2) does in one call what madvise(2) does in many. A process may ask this of
// itself since Linux 6.13, and by this number (PIDFD_SELF) since some versions later.
constexpr long kProcessMadviseCall = 440;
constexpr int kOwnProcess = -10000;

// Where the kernel maps a page of a file, it also maps those in the page cache around it: in ranges
// of this size and alignment, unless somebody set another (fault_around_bytes), or in larger ones.
constexpr std::size_t kMappedAround = 64 << 10;

std::size_t page_nbytes() { return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)); }

// The bytes between the start of their page, or of the page they end in, and `at`.
std::size_t into_page(const std::byte* at) {
  return reinterpret_cast<std::uintptr_t>(at) % page_nbytes();
}

bool populate(std::span<const iovec> pages) noexcept {
  const long done =
      ::syscall(kProcessMadviseCall, kOwnProcess, pages.data(), pages.size(), kPopulateRead, 0U);
  if (done > 0 && static_cast<std::size_t>(done) == pages.size() * page_nbytes()) return true;
  return std::ranges::all_of(pages, [](const iovec& page) {
    return ::madvise(page.iov_base, page.iov_len, kPopulateRead) == 0;
  });
}

// Maps the first page of each of those ranges.
bool map_neighbours(std::byte* begin, std::size_t nbytes) noexcept {
  std::array<iovec, 64> firsts = {};
  std::size_t count = 0;
  for (std::size_t at = 0; at < nbytes;) {
    firsts.at(count++) = {begin + at, page_nbytes()};
    at += kMappedAround - reinterpret_cast<std::uintptr_t>(begin + at) % kMappedAround;
    if (at < nbytes && count < firsts.size()) continue;
    if (!populate(std::span(firsts).first(count))) return false;
    count = 0;
  }
  return true;
}

// Whether the kernel has all pages of a mapping in memory.
bool are_cached(std::byte* begin, std::size_t nbytes) noexcept {
  std::array<unsigned char, 512> cached = {};
  const std::size_t most = cached.size() * page_nbytes();
  for (std::size_t at = 0; at < nbytes; at += most) {
    const std::size_t step = std::min(most, nbytes - at);
    const std::size_t pages = (step + page_nbytes() - 1) / page_nbytes();
    if (::mincore(begin + at, step, cached.data()) != 0) return false;
    const auto is_cached = [](unsigned char page) { return (page & 1) != 0; };
    if (!std::all_of(cached.begin(), cached.begin() + pages, is_cached)) return false;
  }
  return true;
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

bool map_pages(std::span<const std::byte> mapped, MapBy way) noexcept {
  const std::size_t before = into_page(mapped.data());
  auto* const begin = const_cast<std::byte*>(mapped.data()) - before;
  const std::size_t nbytes = before + mapped.size();
  // The kernel maps neighbours only of those that it has, so the rest may still have to be read.
  const bool all_are_cached =
      way == MapBy::neighbours && map_neighbours(begin, nbytes) && are_cached(begin, nbytes);
  return all_are_cached || ::madvise(begin, nbytes, kPopulateRead) == 0;
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

bool new_mappings_are_locked() noexcept {
  const std::size_t page = page_nbytes();
  void* const mapped = ::mmap(nullptr, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return true;  // no more may be locked
  const bool locked = ::madvise(mapped, page, MADV_DONTNEED) != 0;
  ::munmap(mapped, page);
  return locked;
}

}  // namespace flatbed
