// CastKernel: converts many floats from one dtype to another. cast_kernel() is the one table of
// them; where the processor has more than the least instructions, some entries are vectorized. All
// give the same bits and counts (tests/cast compares them). Pure functions, thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "flatbed/cast.hpp"
#include "flatbed/dtype.hpp"

namespace flatbed {

// Converts `count` little-endian elements at `from` to elements at `to`, which do not overlap and
// may have any alignment, and adds to `counts`.
using CastKernel = void (*)(const std::byte* from, std::byte* to, std::size_t count,
                            CastCounts& counts);

// The instructions that a kernel may use.
enum class CastPath : std::uint8_t {
  portable,
  avx2,    // x86-64 with AVX2 and F16C
  avx512,  // the same with AVX-512 F and BW, where that is faster
};

// How results are stored. Streaming stores go past the processor's cache: for results of many
// megabytes, which nothing reads at once.
enum class CastStores : std::uint8_t { usual, streaming };

// Those that this processor has; portable is always first, the fastest last.
[[nodiscard]] std::span<const CastPath> cast_paths() noexcept;

struct CastChoice {
  CastPath path = CastPath::portable;
  CastStores stores = CastStores::usual;  // a hint
};

// The kernel of this path, or that of the path before if it has none of its own; null if a dtype
// cannot be cast, or the two are equal.
[[nodiscard]] CastKernel cast_kernel(Dtype from, Dtype to, CastChoice choice) noexcept;
// The fastest one.
[[nodiscard]] inline CastKernel cast_kernel(Dtype from, Dtype to,
                                            CastStores stores = CastStores::usual) noexcept {
  return cast_kernel(from, to, {cast_paths().back(), stores});
}

}  // namespace flatbed
