#include "io/memory_source.hpp"

#include <cstring>

#include "io/source_range.hpp"

namespace flatbed {

Result<void> MemorySource::read_at(std::uint64_t offset, std::span<std::byte> out) const {
  FLATBED_TRY(check_range(*this, offset, out.size()));
  if (!out.empty()) std::memcpy(out.data(), bytes_.data() + offset, out.size());
  return {};
}

}  // namespace flatbed
