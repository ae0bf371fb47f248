// The memory of this process, as /proc gives it, and a limit on how much more it gets.
#pragma once

#include <sys/resource.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

namespace flatbed::test {

// Of a line of that file: "VmRSS:", "VmHWM:", "VmData:". 0 if there is none.
inline std::uint64_t memory_nbytes(std::string_view line_name) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(line_name))
      return std::strtoull(line.c_str() + line_name.size(), nullptr, 10) * 1024;
  }
  return 0;
}

// How much of a file is in this process's page table: /proc/self/smaps, "Rss:" of its mappings.
inline std::uint64_t mapped_nbytes(const std::filesystem::path& path) {
  std::ifstream maps("/proc/self/smaps");
  std::uint64_t nbytes = 0;
  bool is_of_file = false;
  for (std::string line; std::getline(maps, line);) {
    const bool names = line.find('-') < line.find(' ');  // "begin-end ... path", a mapping
    if (names) is_of_file = line.ends_with(" " + path.string());
    if (is_of_file && line.starts_with("Rss:"))
      nbytes += std::strtoull(line.c_str() + 4, nullptr, 10) * 1024;
  }
  return nbytes;
}

// From now on this process gets so many bytes more, and no memory beyond. For children of fork(),
// because nothing takes it back. False: the system does not allow it.
inline bool limit_memory(std::uint64_t more_nbytes) {
  const rlimit limit{memory_nbytes("VmData:") + more_nbytes, RLIM_INFINITY};
  return ::setrlimit(RLIMIT_DATA, &limit) == 0;
}

// From now on this process gets 128 KiB, for messages, and nothing beyond, not even what malloc()
// has in reserve. For children of fork(), as above.
inline bool use_up_memory() {
  void* const left = std::malloc(128 << 10);
  if (!limit_memory(0)) return false;
  for (void* volatile taken = left; taken != nullptr;) taken = std::malloc(64 << 10);
  std::free(left);
  return true;
}

}  // namespace flatbed::test
