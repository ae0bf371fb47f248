// MemoryFile: bytes as a regular file that lies in memory, for tests that need thousands of them.
// Owns the descriptor; the File that open() gives has one of its own.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <string>
#include <string_view>

#include "io/file.hpp"

namespace flatbed::test {

class MemoryFile {
 public:
  explicit MemoryFile(std::string_view bytes)
      : descriptor_(::memfd_create("flatbed-test", MFD_CLOEXEC)) {
    if (::write(descriptor_, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size()))
      ::close(descriptor_);
  }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  ~MemoryFile() { ::close(descriptor_); }

  [[nodiscard]] Result<File> open() const {
    return File::open("/proc/self/fd/" + std::to_string(descriptor_));
  }

 private:
  int descriptor_;
};

}  // namespace flatbed::test
