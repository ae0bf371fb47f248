// PrivateMapping: a range of a file in memory that may be written: copy on write, so that the file
// never is. Owns the mapping. Move-only. If another process truncates the file, later accesses
// raise SIGBUS.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "flatbed/byte_source.hpp"
#include "flatbed/result.hpp"

namespace flatbed {

class PrivateMapping {
 public:
  // Empty for a range of no bytes, and for a source that is in memory or has no descriptor. The
  // range lies in the source. Errors: file_changed, io_error, resource_exhausted (also the system's
  // limit on mappings, vm.max_map_count), those of ByteSource::descriptor().
  [[nodiscard]] static Result<PrivateMapping> map(const ByteSource& source, std::uint64_t offset,
                                                  std::uint64_t nbytes);

  PrivateMapping(PrivateMapping&& other) noexcept;
  PrivateMapping& operator=(PrivateMapping&& other) noexcept;
  ~PrivateMapping();

  [[nodiscard]] std::span<std::byte> bytes() const noexcept { return pages_.subspan(before_); }

 private:
  PrivateMapping() = default;
  PrivateMapping(std::span<std::byte> pages, std::size_t before) : pages_(pages), before_(before) {}
  std::span<std::byte> pages_;  // from the beginning of a page to the end of the range
  std::size_t before_ = 0;      // bytes of the first page before the range
};

}  // namespace flatbed
