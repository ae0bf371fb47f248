#include "cast/cast_kernel.hpp"

#include <array>
#include <utility>

#include "cast/cast_avx2.hpp"
#include "cast/cast_avx512.hpp"
#include "cast/cast_elements.hpp"

namespace flatbed {

namespace {

constexpr std::size_t kFormats = kFloatFormats.size();

// F32 to BF16 without a branch, in blocks: compilers vectorize it for any processor. A block with a
// value out of range, or NaN, is done again.
void f32_to_bf16(const std::byte* from, std::byte* to, std::size_t count,
                 CastCounts& counts) noexcept {
  constexpr std::size_t kBlock = 64;
  constexpr std::uint32_t kLargest = largest_as<Dtype::f32, Dtype::bf16>();
  std::array<std::uint32_t, kBlock> in;
  std::array<std::uint16_t, kBlock> out;
  for (; count >= kBlock; count -= kBlock) {
    std::memcpy(in.data(), from, sizeof in);
    std::uint32_t rare = 0;
    for (std::size_t i = 0; i < kBlock; ++i) {
      const std::uint32_t bits = in[i];
      rare |= kLargest - (bits & 0x7FFF'FFFF);  // its highest bit: larger
      out[i] = static_cast<std::uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
    }
    if (rare >> 31 == 0) {
      std::memcpy(to, out.data(), sizeof out);
    } else {
      cast_elements<Dtype::f32, Dtype::bf16>(from, to, kBlock, counts);
    }
    from += sizeof in;
    to += sizeof out;
  }
  cast_elements<Dtype::f32, Dtype::bf16>(from, to, count, counts);
}

// BF16 to F32: the upper half, except that NaN gets our own code.
void bf16_to_f32(const std::byte* from, std::byte* to, std::size_t count, CastCounts&) noexcept {
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint32_t bits = std::uint32_t{load_element<Dtype::bf16>(from + i * 2)} << 16;
    const bool nan = (bits & 0x7FFF'FFFF) > 0x7F80'0000;
    const std::uint32_t value = nan ? (bits & 0x8000'0000) | 0x7FC0'0000 : bits;
    std::memcpy(to + i * 4, &value, sizeof value);
  }
}

template <std::size_t kFrom, std::size_t kTo>
constexpr CastKernel portable_kernel() {
  constexpr Dtype kSource = kFloatFormats[kFrom].dtype;
  constexpr Dtype kTarget = kFloatFormats[kTo].dtype;
  if constexpr (kFrom == kTo) {
    return nullptr;
  } else if constexpr (kSource == Dtype::f32 && kTarget == Dtype::bf16) {
    return f32_to_bf16;
  } else if constexpr (kSource == Dtype::bf16 && kTarget == Dtype::f32) {
    return bf16_to_f32;
  } else {
    return cast_elements<kSource, kTarget>;
  }
}

using KernelTable = std::array<std::array<CastKernel, kFormats>, kFormats>;

template <std::size_t... kIndex>
constexpr KernelTable make_table(std::index_sequence<kIndex...> /*unused*/) {
  KernelTable table = {};
  ((table[kIndex / kFormats][kIndex % kFormats] =
        portable_kernel<kIndex / kFormats, kIndex % kFormats>()),
   ...);
  return table;
}
constexpr KernelTable kPortable = make_table(std::make_index_sequence<kFormats * kFormats>());

constexpr std::array kPaths{CastPath::portable, CastPath::avx2, CastPath::avx512};

}  // namespace

std::span<const CastPath> cast_paths() noexcept {
  if (!has_avx2()) return std::span(kPaths).first(1);
  return std::span(kPaths).first(has_avx512() ? 3 : 2);
}

CastKernel cast_kernel(Dtype from, Dtype to, CastChoice choice) noexcept {
  if (!is_castable(from) || !is_castable(to)) return nullptr;
  CastKernel kernel = nullptr;
  if (choice.path == CastPath::avx512) kernel = avx512_kernel(from, to, choice.stores);
  if (kernel == nullptr && choice.path != CastPath::portable)
    kernel = avx2_kernel(from, to, choice.stores);
  if (kernel == nullptr) kernel = kPortable[format_index(from)][format_index(to)];
  return kernel;
}

}  // namespace flatbed
