#include "cast/cast_avx2.hpp"

#include <algorithm>
#include <cstdint>

#include "cast/cast_elements.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

namespace flatbed {

#if defined(__x86_64__)

// Compiled for these instructions whatever the rest of the library is compiled for.
#define FLATBED_AVX2 __attribute__((target("avx2,f16c")))

namespace {

// The control word of a thread in its initial state: round to nearest, mask all exceptions, flush
// no subnormal value. An engine may have set another one.
class UsualRounding {
 public:
  UsualRounding() : before_(_mm_getcsr()) { _mm_setcsr(kUsual); }
  UsualRounding(const UsualRounding&) = delete;
  UsualRounding& operator=(const UsualRounding&) = delete;
  ~UsualRounding() { _mm_setcsr(before_); }

 private:
  static constexpr unsigned kUsual = 0x1F80;
  unsigned before_;
};

constexpr int kAbs32 = 0x7FFF'FFFF;
constexpr std::size_t kVector = 32;  // bytes

FLATBED_AVX2 inline __m256i load256(const std::byte* at) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
}
FLATBED_AVX2 inline __m128i load128(const std::byte* at) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
}
FLATBED_AVX2 inline void store256(std::byte* at, __m256i value) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(at), value);
}
FLATBED_AVX2 inline void store128(std::byte* at, __m128i value) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(at), value);
}

// All ones where the magnitude of a 32-bit lane is larger than that of `largest`.
FLATBED_AVX2 inline __m256i beyond(__m256i bits, __m256i largest) {
  return _mm256_cmpgt_epi32(_mm256_and_si256(bits, _mm256_set1_epi32(kAbs32)), largest);
}

FLATBED_AVX2 inline __m256i round_to_bf16(__m256i bits) {
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i half = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF));
  return _mm256_srli_epi32(_mm256_add_epi32(bits, half), 16);
}

// Each kernel converts whole blocks. A block with a value out of range, or NaN, goes the portable
// way, and so does the rest after the last block.

// Elements of two bytes before `to` is aligned for a streaming store; all of them if it never is.
std::size_t count_to_aligned(const std::byte* to, std::size_t count) {
  const auto beyond_line = reinterpret_cast<std::uintptr_t>(to) % kVector;
  if (beyond_line % 2 != 0) return count;
  return std::min(count, (kVector - beyond_line) % kVector / 2);
}

template <CastStores kStores>
FLATBED_AVX2 inline void store_as(std::byte* at, __m256i value) {
  if constexpr (kStores == CastStores::streaming) {
    _mm256_stream_si256(reinterpret_cast<__m256i*>(at), value);
  } else {
    store256(at, value);
  }
}

// The processor's own prefetching lags behind when the stores do not wait for it. Addresses past
// the end are ignored.
FLATBED_AVX2 inline void fetch_ahead(const std::byte* from) {
  constexpr std::size_t kAhead = 4096;
  constexpr std::size_t kLine = 64;
  _mm_prefetch(reinterpret_cast<const char*>(from) + kAhead, _MM_HINT_T0);
  _mm_prefetch(reinterpret_cast<const char*>(from) + kAhead + kLine, _MM_HINT_T0);
}

// The larger magnitudes of each lane of both.
FLATBED_AVX2 inline __m256i larger(__m256i magnitudes, __m256i bits) {
  return _mm256_max_epi32(magnitudes, _mm256_and_si256(bits, _mm256_set1_epi32(kAbs32)));
}

FLATBED_AVX2 inline __m256i round_to_bf16(__m256i low, __m256i high) {
  const __m256i lanes = _mm256_packus_epi32(round_to_bf16(low), round_to_bf16(high));
  return _mm256_permute4x64_epi64(lanes, 0xD8);
}

template <CastStores kStores>
FLATBED_AVX2 void f32_to_bf16(const std::byte* from, std::byte* to, std::size_t count,
                              CastCounts& counts) noexcept {
  constexpr std::size_t kBlock = 32;
  if constexpr (kStores == CastStores::streaming) {
    const std::size_t head = count_to_aligned(to, count);
    cast_elements<Dtype::f32, Dtype::bf16>(from, to, head, counts);
    from += head * 4, to += head * 2, count -= head;
  }
  const __m256i largest =
      _mm256_set1_epi32(static_cast<int>(largest_as<Dtype::f32, Dtype::bf16>()));
  for (; count >= kBlock; count -= kBlock, from += kBlock * 4, to += kBlock * 2) {
    if constexpr (kStores == CastStores::streaming) fetch_ahead(from);
    const __m256i a = load256(from);
    const __m256i b = load256(from + 32);
    const __m256i c = load256(from + 64);
    const __m256i d = load256(from + 96);
    const __m256i most = larger(larger(larger(larger(_mm256_setzero_si256(), a), b), c), d);
    const __m256i rare = _mm256_cmpgt_epi32(most, largest);
    if (_mm256_testz_si256(rare, rare) == 0) {
      cast_elements<Dtype::f32, Dtype::bf16>(from, to, kBlock, counts);
      continue;
    }
    store_as<kStores>(to, round_to_bf16(a, b));
    store_as<kStores>(to + 32, round_to_bf16(c, d));
  }
  cast_elements<Dtype::f32, Dtype::bf16>(from, to, count, counts);
  if constexpr (kStores == CastStores::streaming) _mm_sfence();
}

template <CastStores kStores>
FLATBED_AVX2 void f32_to_f16(const std::byte* from, std::byte* to, std::size_t count,
                             CastCounts& counts) noexcept {
  constexpr std::size_t kBlock = 16;
  constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT;
  if constexpr (kStores == CastStores::streaming) {
    const std::size_t head = count_to_aligned(to, count);
    cast_elements<Dtype::f32, Dtype::f16>(from, to, head, counts);
    from += head * 4, to += head * 2, count -= head;
  }
  const UsualRounding rounding;
  const __m256i largest = _mm256_set1_epi32(static_cast<int>(largest_as<Dtype::f32, Dtype::f16>()));
  for (; count >= kBlock; count -= kBlock, from += kBlock * 4, to += kBlock * 2) {
    if constexpr (kStores == CastStores::streaming) fetch_ahead(from);
    const __m256i a = load256(from);
    const __m256i b = load256(from + 32);
    const __m256i most = larger(larger(_mm256_setzero_si256(), a), b);
    const __m256i rare = _mm256_cmpgt_epi32(most, largest);
    if (_mm256_testz_si256(rare, rare) == 0) {
      cast_elements<Dtype::f32, Dtype::f16>(from, to, kBlock, counts);
      continue;
    }
    const __m128i low = _mm256_cvtps_ph(_mm256_castsi256_ps(a), kNearest);
    const __m128i high = _mm256_cvtps_ph(_mm256_castsi256_ps(b), kNearest);
    store_as<kStores>(to, _mm256_set_m128i(high, low));
  }
  cast_elements<Dtype::f32, Dtype::f16>(from, to, count, counts);
  if constexpr (kStores == CastStores::streaming) _mm_sfence();
}

FLATBED_AVX2 void bf16_to_f32(const std::byte* from, std::byte* to, std::size_t count,
                              CastCounts& counts) noexcept {
  constexpr std::size_t kBlock = 8;
  const __m256i infinity = _mm256_set1_epi32(0x7F80'0000);
  for (; count >= kBlock; count -= kBlock, from += kBlock * 2, to += kBlock * 4) {
    const __m256i bits = _mm256_slli_epi32(_mm256_cvtepu16_epi32(load128(from)), 16);
    const __m256i rare = beyond(bits, infinity);
    if (_mm256_testz_si256(rare, rare) == 0) {
      cast_elements<Dtype::bf16, Dtype::f32>(from, to, kBlock, counts);
      continue;
    }
    store256(to, bits);
  }
  cast_elements<Dtype::bf16, Dtype::f32>(from, to, count, counts);
}

FLATBED_AVX2 void f16_to_f32(const std::byte* from, std::byte* to, std::size_t count,
                             CastCounts& counts) noexcept {
  constexpr std::size_t kBlock = 8;
  const UsualRounding rounding;
  const __m256i infinity = _mm256_set1_epi32(0x7F80'0000);
  for (; count >= kBlock; count -= kBlock, from += kBlock * 2, to += kBlock * 4) {
    const __m256i bits = _mm256_castps_si256(_mm256_cvtph_ps(load128(from)));
    const __m256i rare = beyond(bits, infinity);
    if (_mm256_testz_si256(rare, rare) == 0) {
      cast_elements<Dtype::f16, Dtype::f32>(from, to, kBlock, counts);
      continue;
    }
    store256(to, bits);
  }
  cast_elements<Dtype::f16, Dtype::f32>(from, to, count, counts);
}

FLATBED_AVX2 void f32_to_f64(const std::byte* from, std::byte* to, std::size_t count,
                             CastCounts& counts) noexcept {
  constexpr std::size_t kBlock = 8;
  const UsualRounding rounding;
  const __m256i infinity = _mm256_set1_epi32(0x7F80'0000);
  for (; count >= kBlock; count -= kBlock, from += kBlock * 4, to += kBlock * 8) {
    const __m256i bits = load256(from);
    const __m256i rare = beyond(bits, infinity);
    if (_mm256_testz_si256(rare, rare) == 0) {
      cast_elements<Dtype::f32, Dtype::f64>(from, to, kBlock, counts);
      continue;
    }
    const __m256 values = _mm256_castsi256_ps(bits);
    store256(to, _mm256_castpd_si256(_mm256_cvtps_pd(_mm256_castps256_ps128(values))));
    store256(to + 32, _mm256_castpd_si256(_mm256_cvtps_pd(_mm256_extractf128_ps(values, 1))));
  }
  cast_elements<Dtype::f32, Dtype::f64>(from, to, count, counts);
}

FLATBED_AVX2 void f64_to_f32(const std::byte* from, std::byte* to, std::size_t count,
                             CastCounts& counts) noexcept {
  constexpr std::size_t kBlock = 4;
  const UsualRounding rounding;
  const __m256i magnitude = _mm256_set1_epi64x(0x7FFF'FFFF'FFFF'FFFF);
  const __m256i largest =
      _mm256_set1_epi64x(static_cast<long long>(largest_as<Dtype::f64, Dtype::f32>()));
  for (; count >= kBlock; count -= kBlock, from += kBlock * 8, to += kBlock * 4) {
    const __m256i bits = load256(from);
    const __m256i rare = _mm256_cmpgt_epi64(_mm256_and_si256(bits, magnitude), largest);
    if (_mm256_testz_si256(rare, rare) == 0) {
      cast_elements<Dtype::f64, Dtype::f32>(from, to, kBlock, counts);
      continue;
    }
    store128(to, _mm_castps_si128(_mm256_cvtpd_ps(_mm256_castsi256_pd(bits))));
  }
  cast_elements<Dtype::f64, Dtype::f32>(from, to, count, counts);
}

struct KernelRow {
  Dtype from;
  Dtype to;
  CastKernel usual;
  CastKernel streaming;  // null: there is none
};
constexpr std::array kKernels{
    KernelRow{Dtype::f32, Dtype::bf16, f32_to_bf16<CastStores::usual>,
              f32_to_bf16<CastStores::streaming>},
    KernelRow{Dtype::f32, Dtype::f16, f32_to_f16<CastStores::usual>,
              f32_to_f16<CastStores::streaming>},
    KernelRow{Dtype::bf16, Dtype::f32, bf16_to_f32, nullptr},
    KernelRow{Dtype::f16, Dtype::f32, f16_to_f32, nullptr},
    KernelRow{Dtype::f32, Dtype::f64, f32_to_f64, nullptr},
    KernelRow{Dtype::f64, Dtype::f32, f64_to_f32, nullptr},
};

}  // namespace

// Asked once: in a virtual machine, the host has to answer each CPUID.
bool has_avx2() noexcept {
  static const bool has = [] {
    unsigned a = 0;
    unsigned b = 0;
    unsigned c = 0;
    unsigned d = 0;
    // Clang's __builtin_cpu_supports() does not know F16C.
    return __builtin_cpu_supports("avx2") != 0 && __get_cpuid(1, &a, &b, &c, &d) != 0 &&
           (c & bit_F16C) != 0;
  }();
  return has;
}

CastKernel avx2_kernel(Dtype from, Dtype to, CastStores stores) noexcept {
  for (const KernelRow& row : kKernels) {
    if (row.from != from || row.to != to) continue;
    return stores == CastStores::streaming && row.streaming != nullptr ? row.streaming : row.usual;
  }
  return nullptr;
}

#else

bool has_avx2() noexcept { return false; }
CastKernel avx2_kernel(Dtype, Dtype, CastStores) noexcept { return nullptr; }

#endif

}  // namespace flatbed
