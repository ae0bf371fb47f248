#include "archive/crc32.hpp"

#include <libdeflate.h>
#include <zlib.h>

namespace flatbed::pth {

// Sums come from libdeflate, which uses the processor's carry-less multiplication. With zlib's
// slower sums, converting would take longer than copying. Only zlib can combine two sums.
std::uint32_t crc32_of(std::span<const std::byte> bytes) noexcept {
  return bytes.empty() ? 0 : libdeflate_crc32(0, bytes.data(), bytes.size());
}

std::uint32_t crc32_joined(std::uint32_t first, std::uint32_t second,
                           std::uint64_t second_nbytes) noexcept {
  return static_cast<std::uint32_t>(
      crc32_combine(first, second, static_cast<z_off_t>(second_nbytes)));
}

}  // namespace flatbed::pth
