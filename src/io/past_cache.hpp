// Copies that store past the processor's cache. Plain functions, thread-safe.
//
// A load copies more than the cache holds, so a usual store first reads a line that is overwritten
// as a whole, and throws out another that is still needed. Measured on an AMD EPYC (family 26, 2
// cores), chunks of 256 KiB that are hashed and then copied: 43 GB/s past the cache, where memcpy()
// reaches 42 if the destination lies well and 32 if it does not.
//
// For the other processors than x86-64, these are memcpy().
#pragma once

#include <cstddef>
#include <cstdint>

namespace flatbed {

// The unit of such stores.
inline constexpr std::uint64_t kLineNbytes = 64;

// What is smaller is left to memcpy(): its first and last lines are stored that way anyway.
inline constexpr std::uint64_t kPastCacheNbytes = 4096;

// Copies memory that does not overlap. Other threads may see the stores only after those that are
// made later, until this thread calls finish_past_cache().
void copy_past_cache(std::byte* to, const std::byte* from, std::uint64_t nbytes) noexcept;
// The same for a part of a longer copy, however small. Only the last part should end within a line.
void copy_part_past_cache(std::byte* to, const std::byte* from, std::uint64_t nbytes) noexcept;
// The same for bytes that are in no cache: what comes next is fetched meanwhile, over the end of a
// page too, where processors do not do it of themselves.
void copy_fetching(std::byte* to, const std::byte* from, std::uint64_t nbytes) noexcept;
void finish_past_cache() noexcept;

// How much to copy past the cache and how much to hash by turns: the stores are on their way while
// the processor hashes. 1 KiB on Intel, where a warm verified load took some 4 percent less time
// than with 4 KiB (bench/results/2026-11-30-granite.txt); 4 KiB elsewhere, as good as any on AMD.
[[nodiscard]] std::uint64_t turn_nbytes() noexcept;

// Whether bytes that are hashed reach memory sooner by way of a buffer that stays in the cache than
// by a read to their place, where hashing reads memory once more. How many times as fast the way by
// the buffer was:
//
//                                                 two passes   one pass (copy_and_xxh3())
//   Intel, 2.8 GHz, L2 1.25 MiB a core               1.12         not measured
//   Intel with AMX-FP16 (2.6 GHz), L2 2 MiB a core   not measured 1.11
//   AMD family 26 (Zen 5), L2 1 MiB a core           1.04         1.11 to 1.25
//   AMD family 25 (Zen 3), L2 512 KiB a core         0.94         1.05 to 1.23
//
// (bench/results/2026-11-29-pieces.txt, 2026-11-30-bounce.txt, -fused.txt, -zen3.txt and
// -granite.txt). So: on Intel where a core has a second-level cache of at least 1 MiB, and on AMD
// from family 25 on. That takes in Zen 4, between the two that were measured. Others, which nobody
// measured, read in place.
[[nodiscard]] bool bounce_pays() noexcept;

}  // namespace flatbed
