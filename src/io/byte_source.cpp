#include "flatbed/byte_source.hpp"

namespace flatbed {

ByteSource::~ByteSource() = default;

Result<void> ByteSource::read_parts(std::uint64_t offset,
                                    std::span<const std::span<std::byte>> parts) const {
  for (const std::span<std::byte> part : parts) {
    FLATBED_TRY(read_at(offset, part));
    offset += part.size();
  }
  return {};
}

Result<void> ByteSource::read_with_progress(std::uint64_t offset,
                                            std::span<const std::span<std::byte>> parts,
                                            const ReadProgress& progress) const {
  FLATBED_TRY(read_parts(offset, parts));
  std::uint64_t nbytes = 0;
  for (const std::span<std::byte> part : parts) nbytes += part.size();
  return progress(nbytes);
}

Result<void> ByteSource::check_unchanged() const { return {}; }

std::span<const std::byte> ByteSource::memory() const noexcept { return {}; }

Result<DescriptorLease> ByteSource::descriptor() const { return DescriptorLease(); }

std::size_t ByteSource::preferred_read_nbytes() const noexcept { return std::size_t{256} << 10; }

unsigned ByteSource::max_rereads() const noexcept { return 0; }

Result<void> ByteSource::reread_at(std::uint64_t offset, std::span<std::byte> out) const {
  return read_at(offset, out);
}

}  // namespace flatbed
