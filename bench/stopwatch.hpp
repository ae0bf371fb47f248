// Shared by the programs of this folder: a clock, and the numbers that Linux keeps about a process.
#pragma once

#include <chrono>
#include <cstdint>
#include <fstream>
#include <string>
#include <string_view>

namespace bench {

// The seconds that `work` takes.
template <typename Work>
double time_seconds(Work work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// The number after `key` in a file of lines "key: number ..."; 0 if there is none.
inline std::uint64_t read_number(const char* path, std::string_view key) {
  std::ifstream file(path);
  std::string word;
  while (file >> word) {
    std::uint64_t number = 0;
    if (word == key && file >> number) return number;
  }
  return 0;
}

// The peak memory of this process.
inline std::uint64_t peak_kib() { return read_number("/proc/self/status", "VmHWM:"); }

// The bytes that this process has read so far, from the disk or the page cache.
inline std::uint64_t bytes_read() { return read_number("/proc/self/io", "rchar:"); }

}  // namespace bench
