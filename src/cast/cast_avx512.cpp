#include "cast/cast_avx512.hpp"

#include <algorithm>
#include <cstdint>

#include "cast/cast_elements.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace flatbed {

#if defined(__x86_64__)

// Compiled for these instructions whatever the rest of the library is compiled for.
#define FLATBED_AVX512 __attribute__((target("avx512f,avx512bw")))

namespace {

constexpr std::size_t kVector = 64;  // bytes; a line of the cache, too
constexpr std::size_t kAhead = 4096;

// The numbers of the upper halves of 32 floats in two vectors.
constexpr auto kUpperHalves = [] {
  std::array<std::uint16_t, 32> numbers = {};
  for (std::size_t i = 0; i < numbers.size(); ++i)
    numbers[i] = static_cast<std::uint16_t>(2 * i + 1);
  return numbers;
}();

// With a mask of all lanes, because g++ 12 warns of the plain functions (its bug 105593). The
// instructions are the same.
constexpr __mmask16 kAll = 0xFFFF;

FLATBED_AVX512 inline __m512i load512(const void* at) { return _mm512_loadu_si512(at); }

FLATBED_AVX512 inline __m512i larger(__m512i a, __m512i b) {
  return _mm512_maskz_max_epi32(kAll, a, b);
}

// Rounded to nearest even at bit 16; the lower half is left as it comes.
FLATBED_AVX512 inline __m512i round_upper_half(__m512i bits) {
  const __m512i odd =
      _mm512_and_si512(_mm512_maskz_srli_epi32(kAll, bits, 16), _mm512_set1_epi32(1));
  return _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF)), odd);
}

// As in cast_avx2.cpp: a block with a value out of range, or NaN, goes the portable way.
template <CastStores kStores>
FLATBED_AVX512 void f32_to_bf16(const std::byte* from, std::byte* to, std::size_t count,
                                CastCounts& counts) noexcept {
  constexpr std::size_t kBlock = 32;
  if constexpr (kStores == CastStores::streaming) {
    const auto beyond = reinterpret_cast<std::uintptr_t>(to) % kVector;
    const std::size_t head =
        beyond % 2 != 0 ? count : std::min(count, (kVector - beyond) % kVector / 2);
    cast_elements<Dtype::f32, Dtype::bf16>(from, to, head, counts);
    from += head * 4, to += head * 2, count -= head;
  }
  const __m512i numbers = load512(kUpperHalves.data());
  const __m512i absolute = _mm512_set1_epi32(0x7FFF'FFFF);
  const __m512i largest =
      _mm512_set1_epi32(static_cast<int>(largest_as<Dtype::f32, Dtype::bf16>()));
  for (; count >= kBlock; count -= kBlock, from += kBlock * 4, to += kBlock * 2) {
    if constexpr (kStores == CastStores::streaming) {  // as in cast_avx2.cpp
      _mm_prefetch(reinterpret_cast<const char*>(from) + kAhead, _MM_HINT_T0);
      _mm_prefetch(reinterpret_cast<const char*>(from) + kAhead + kVector, _MM_HINT_T0);
    }
    const __m512i a = load512(from);
    const __m512i b = load512(from + kVector);
    const __m512i most = larger(_mm512_and_si512(a, absolute), _mm512_and_si512(b, absolute));
    if (_mm512_cmpgt_epi32_mask(most, largest) != 0) {
      cast_elements<Dtype::f32, Dtype::bf16>(from, to, kBlock, counts);
      continue;
    }
    const __m512i values =
        _mm512_permutex2var_epi16(round_upper_half(a), numbers, round_upper_half(b));
    if constexpr (kStores == CastStores::streaming) {
      _mm512_stream_si512(reinterpret_cast<__m512i*>(to), values);
    } else {
      _mm512_storeu_si512(to, values);
    }
  }
  cast_elements<Dtype::f32, Dtype::bf16>(from, to, count, counts);
  if constexpr (kStores == CastStores::streaming) _mm_sfence();
}

}  // namespace

bool has_avx512() noexcept {
  return __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0;
}

CastKernel avx512_kernel(Dtype from, Dtype to, CastStores stores) noexcept {
  if (from != Dtype::f32 || to != Dtype::bf16) return nullptr;
  return stores == CastStores::streaming ? f32_to_bf16<CastStores::streaming>
                                         : f32_to_bf16<CastStores::usual>;
}

#else

bool has_avx512() noexcept { return false; }
CastKernel avx512_kernel(Dtype, Dtype, CastStores) noexcept { return nullptr; }

#endif

}  // namespace flatbed
