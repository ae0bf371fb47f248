#include "io/page_cache.hpp"

#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace flatbed {

namespace {

constexpr std::uint64_t kMaxSample = 64;
// Counting takes some 25 ns a page, so in large ranges only windows at equal distances are counted.
constexpr std::uint64_t kMaxCountedPages = 4096;
constexpr std::uint64_t kWindowPages = 16;

// Pages [first, first + count) of a file; count is at least 1.
struct PageRange {
  std::uint64_t first = 0;
  std::uint64_t count = 0;
  std::uint64_t page_nbytes = 4096;
};

// cachestat(2) came with Linux 6.5, its declarations with later C libraries. The number is the same
// on every architecture.
constexpr long kCachestatCall = 451;
struct CachestatRange {
  std::uint64_t offset;
  std::uint64_t nbytes;
};
struct CachestatCounts {
  std::uint64_t cached;
  std::uint64_t dirty;
  std::uint64_t writeback;
  std::uint64_t evicted;
  std::uint64_t recently_evicted;
};

// nullopt if the kernel is older, or is newer and answers only owners and writers.
std::optional<std::uint64_t> count_cached(int descriptor, const PageRange& pages) noexcept {
  CachestatRange range = {pages.first * pages.page_nbytes, pages.count * pages.page_nbytes};
  CachestatCounts counts = {};
  if (::syscall(kCachestatCall, descriptor, &range, &counts, 0U) != 0) return std::nullopt;
  return std::min(counts.cached, pages.count);
}

std::optional<double> counted_fraction(int descriptor, const PageRange& pages) noexcept {
  const bool all = pages.count <= kMaxCountedPages;
  const std::uint64_t windows = all ? 1 : kMaxSample;
  const std::uint64_t stride = pages.count / windows;
  const std::uint64_t each = all ? pages.count : kWindowPages;
  std::uint64_t cached = 0;
  for (std::uint64_t i = 0; i < windows; ++i) {
    const std::uint64_t first = pages.first + i * stride + (stride - each) / 2;
    const auto found = count_cached(descriptor, {first, each, pages.page_nbytes});
    if (!found) return std::nullopt;
    cached += *found;
  }
  return static_cast<double>(cached) / static_cast<double>(windows * each);
}

// Requests a byte of pages at equal distances, provided that no wait is needed. Newer kernels may
// start to read a missing page; the small sample limits that.
std::optional<double> sampled_fraction(int descriptor, const PageRange& pages) noexcept {
  const std::uint64_t sample = std::min(pages.count, kMaxSample);
  const std::uint64_t stride = pages.count / sample;
  std::uint64_t cached = 0;
  for (std::uint64_t i = 0; i < sample; ++i) {
    const std::uint64_t offset = (pages.first + i * stride + stride / 2) * pages.page_nbytes;
    std::byte byte = {};
    const iovec one = {&byte, 1};
    const ssize_t got = ::preadv2(descriptor, &one, 1, static_cast<off_t>(offset), RWF_NOWAIT);
    if (got == 0 || (got < 0 && errno != EAGAIN)) return std::nullopt;
    if (got > 0) ++cached;
  }
  return static_cast<double>(cached) / static_cast<double>(sample);
}

}  // namespace

std::optional<double> cached_fraction(const ByteSource& source, std::uint64_t offset,
                                      std::uint64_t nbytes) {
  const std::uint64_t begin = std::min(offset, source.size());
  const std::uint64_t end = begin + std::min(nbytes, source.size() - begin);
  if (begin == end) return 1;
  PageRange pages;
  pages.page_nbytes = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  pages.first = begin / pages.page_nbytes;
  pages.count = (end - 1) / pages.page_nbytes - pages.first + 1;
  const Result<DescriptorLease> lease = source.descriptor();
  if (!lease || !*lease) return std::nullopt;
  if (const auto counted = counted_fraction(lease->get(), pages)) return counted;
  return sampled_fraction(lease->get(), pages);
}

void read_ahead(const ByteSource& source, std::span<const FileRange> ranges) {
  const Result<DescriptorLease> lease = source.descriptor();
  if (!lease || !*lease) return;
  for (const FileRange& range : ranges) {
    ::posix_fadvise(lease->get(), static_cast<off_t>(range.begin),
                    static_cast<off_t>(range.nbytes()), POSIX_FADV_WILLNEED);
  }
}

}  // namespace flatbed
