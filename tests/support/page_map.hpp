// What the kernel says about the pages of this process.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <fstream>
#include <span>
#include <string>

#include "support/sanitizers.hpp"

namespace flatbed::test {

inline std::size_t page_nbytes() { return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)); }

// The pages of `bytes` that are in memory and mapped into this process (/proc/self/pagemap, bit
// 63).
inline std::size_t present_pages(std::span<const std::byte> bytes) {
  const std::size_t page = page_nbytes();
  const auto begin = reinterpret_cast<std::uintptr_t>(bytes.data());
  const int map = ::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  std::size_t count = 0;
  for (std::uintptr_t number = begin / page; number * page < begin + bytes.size(); ++number) {
    std::uint64_t entry = 0;
    const auto at = static_cast<off_t>(number * sizeof entry);
    if (::pread(map, &entry, sizeof entry, at) == sizeof entry) count += entry >> 63;
  }
  if (map >= 0) ::close(map);
  return count;
}

// The memory that this process has locked, in bytes.
inline std::size_t locked_nbytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmLck:")) return std::stoul(line.substr(6)) * 1024;
  }
  return 0;
}

// The sanitizers replace mlock() by nothing.
inline constexpr bool kPagesCanBeLocked = !FLATBED_SANITIZED;

}  // namespace flatbed::test
