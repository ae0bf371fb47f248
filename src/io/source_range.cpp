#include "io/source_range.hpp"

#include "base/checked.hpp"
#include "base/str_cat.hpp"

namespace flatbed {

Result<void> check_range(const ByteSource& source, std::uint64_t offset, std::uint64_t nbytes) {
  if (in_bounds(offset, nbytes, source.size())) return {};
  return make_error(ErrorCode::invalid_argument, quoted(source.label()), ": cannot read ", nbytes,
                    " bytes at offset ", offset, " of ", source.size(), " bytes");
}

std::uint64_t nbytes_of(std::span<const std::span<std::byte>> parts) noexcept {
  std::uint64_t nbytes = 0;
  for (const std::span<std::byte> part : parts) {
    nbytes = checked_add(nbytes, part.size()).value_or(UINT64_MAX);
  }
  return nbytes;
}

}  // namespace flatbed
