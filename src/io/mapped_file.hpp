// MappedFile: a read-only mapping of a whole file. Owns the mapping; move-only; const members are
// thread-safe. Another process that truncates the file turns later touches into SIGBUS.
#pragma once

#include <cstddef>
#include <span>

#include "flatbed/result.hpp"
#include "io/file.hpp"

namespace flatbed {

class MappedFile {
 public:
  // Maps file.size() bytes; checks first that the file still has them. Errors: file_changed,
  // io_error, resource_exhausted. The descriptor may be closed afterwards.
  [[nodiscard]] static Result<MappedFile> map(const File& file);

  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return {data_, size_}; }

 private:
  MappedFile(const std::byte* data, std::size_t size) : data_(data), size_(size) {}
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace flatbed
