// What the kernel has of a file in memory.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <span>
#include <vector>

#include "io/descriptor.hpp"

namespace flatbed::test {

// Has the file written to its disk and its pages forgotten. Not every file system does that: true
// only means that nothing failed.
inline bool drop_from_cache(const std::filesystem::path& path) {
  const Descriptor file(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  return file.get() >= 0 && ::fsync(file.get()) == 0 &&
         ::posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED) == 0;
}

// The pages of a mapping that need no read. Begins with a page.
inline std::size_t resident_pages(std::span<const std::byte> mapped) {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  std::vector<unsigned char> pages((mapped.size() + page - 1) / page);
  auto* const begin = const_cast<std::byte*>(mapped.data());
  if (::mincore(begin, mapped.size(), pages.data()) != 0) return 0;
  return static_cast<std::size_t>(
      std::ranges::count_if(pages, [](unsigned char each) { return (each & 1) != 0; }));
}

}  // namespace flatbed::test
