// MappedFile: a read-only mapping of a whole file. Owns the mapping. Move-only; const members are
// thread-safe. If another process truncates the file, later accesses raise SIGBUS.
#pragma once

#include <cstddef>
#include <span>

#include "flatbed/byte_source.hpp"
#include "flatbed/result.hpp"

namespace flatbed {

class MappedFile {
 public:
  // Maps source.size() bytes by the source's descriptor, which may be closed afterwards; checks
  // first that its file still has them. Errors: file_changed, io_error, resource_exhausted,
  // not_viewable (the source has no descriptor), those of ByteSource::descriptor().
  [[nodiscard]] static Result<MappedFile> map(const ByteSource& source);

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
