#include "io/past_cache.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

namespace flatbed {

#if defined(__x86_64__)

namespace {

// Copy whole lines. The stores that fill a line go to memory in one piece.

void store_lines(std::byte* to, const std::byte* from, std::uint64_t nbytes) noexcept {
  for (std::uint64_t at = 0; at < nbytes; at += kLineNbytes) {
    const auto* const source = reinterpret_cast<const __m128i*>(from + at);
    auto* const line = reinterpret_cast<__m128i*>(to + at);
    const __m128i first = _mm_loadu_si128(source);
    const __m128i second = _mm_loadu_si128(source + 1);
    const __m128i third = _mm_loadu_si128(source + 2);
    const __m128i fourth = _mm_loadu_si128(source + 3);
    _mm_stream_si128(line, first);
    _mm_stream_si128(line + 1, second);
    _mm_stream_si128(line + 2, third);
    _mm_stream_si128(line + 3, fourth);
  }
}

[[gnu::target("avx512f")]] void store_lines_avx512(std::byte* to, const std::byte* from,
                                                   std::uint64_t nbytes) noexcept {
  for (std::uint64_t at = 0; at < nbytes; at += kLineNbytes) {
    _mm512_stream_si512(reinterpret_cast<__m512i*>(to + at), _mm512_loadu_si512(from + at));
  }
}

// With stores of 512 bits a load that hashes in the same pass took 1 percent less time on Zen 5
// (bench/results/2026-11-30-fused.txt), about as much as the rounds differed.
using StoreLines = void (*)(std::byte*, const std::byte*, std::uint64_t) noexcept;
StoreLines choose_store_lines() noexcept {
  return __builtin_cpu_supports("avx512f") ? store_lines_avx512 : store_lines;
}

// ---- what the processor says of itself ----------------------------------------------------------

enum class Maker : std::uint8_t { intel, amd, other };
Maker maker() noexcept {
  unsigned most = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  if (__get_cpuid(0, &most, &b, &c, &d) == 0) return Maker::other;
  if (b == signature_INTEL_ebx && c == signature_INTEL_ecx) return Maker::intel;
  return b == signature_AMD_ebx && c == signature_AMD_ecx ? Maker::amd : Maker::other;
}

// As its maker counts them, by the manuals: the base and the extension. 0 if it does not say.
unsigned family() noexcept {
  unsigned signature = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  if (__get_cpuid(1, &signature, &b, &c, &d) == 0) return 0;
  const unsigned base = signature >> 8 & 0xf;
  return base == 0xf ? base + (signature >> 20 & 0xff) : base;
}

}  // namespace

void copy_past_cache(std::byte* to, const std::byte* from, std::uint64_t nbytes) noexcept {
  if (nbytes < kPastCacheNbytes) {
    std::memcpy(to, from, static_cast<std::size_t>(nbytes));
  } else {
    copy_part_past_cache(to, from, nbytes);
  }
}

void copy_part_past_cache(std::byte* to, const std::byte* from, std::uint64_t nbytes) noexcept {
  static const StoreLines store = choose_store_lines();
  const std::uint64_t in_line = reinterpret_cast<std::uintptr_t>(to) % kLineNbytes;
  const std::uint64_t head = in_line == 0 ? 0 : std::min(nbytes, kLineNbytes - in_line);
  std::memcpy(to, from, static_cast<std::size_t>(head));
  const std::uint64_t whole = (nbytes - head) / kLineNbytes * kLineNbytes;
  store(to + head, from + head, whole);
  const std::uint64_t at = head + whole;
  std::memcpy(to + at, from + at, static_cast<std::size_t>(nbytes - at));
}

void copy_fetching(std::byte* to, const std::byte* from, std::uint64_t nbytes) noexcept {
  constexpr std::uint64_t kAheadNbytes = 1 << 10;
  // The first step ends a line.
  std::uint64_t step = kAheadNbytes - reinterpret_cast<std::uintptr_t>(to) % kLineNbytes;
  for (std::uint64_t at = 0; at < nbytes; at += step, step = kAheadNbytes) {
    const std::uint64_t now = std::min(step, nbytes - at);
    const std::byte* const next = from + at + now;
    const std::uint64_t fetched = std::min(kAheadNbytes, nbytes - at - now);
    for (std::uint64_t i = 0; i < fetched; i += kLineNbytes) __builtin_prefetch(next + i);
    copy_part_past_cache(to + at, from + at, now);
  }
}

void finish_past_cache() noexcept { _mm_sfence(); }

std::uint64_t turn_nbytes() noexcept {
  static const std::uint64_t nbytes = maker() == Maker::intel ? 1 << 10 : 4 << 10;
  return nbytes;
}

bool bounce_pays() noexcept {
  switch (maker()) {
    case Maker::intel:
      return ::sysconf(_SC_LEVEL2_CACHE_SIZE) >= 1 << 20;
    case Maker::amd:
      return family() >= 25;
    case Maker::other:
      return false;
  }
  return false;
}

#else

void copy_past_cache(std::byte* to, const std::byte* from, std::uint64_t nbytes) noexcept {
  std::memcpy(to, from, static_cast<std::size_t>(nbytes));
}

void copy_part_past_cache(std::byte* to, const std::byte* from, std::uint64_t nbytes) noexcept {
  std::memcpy(to, from, static_cast<std::size_t>(nbytes));
}

void copy_fetching(std::byte* to, const std::byte* from, std::uint64_t nbytes) noexcept {
  std::memcpy(to, from, static_cast<std::size_t>(nbytes));
}

void finish_past_cache() noexcept {}

std::uint64_t turn_nbytes() noexcept { return 4 << 10; }

bool bounce_pays() noexcept { return false; }

#endif

}  // namespace flatbed
