// gather(): reads the contiguous contents of a strided view from a storage that is too large to
// hold.
//
// It cuts the requested range into boxes of whole rows. It reads each box in the storage's own
// order, many runs at a time, into a small stage, and scatters the elements from there. So a
// transposed matrix costs long reads instead of one per element. Larger ranges give longer runs:
// pass tens of MiB.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "flatbed/result.hpp"

namespace flatbed::pth {

// A view that is known to lie within its storage. Borrows.
struct StridedView {
  std::span<const std::uint64_t> sizes;
  std::span<const std::uint64_t> strides;  // in elements; same length as sizes
  std::uint64_t offset = 0;                // in elements
  std::uint32_t element_nbytes = 1;        // 1, 2, 4, 8 or 16
};

// Reads a range of the storage's bytes.
using ReadStorage = std::function<Result<void>(std::uint64_t offset, std::span<std::byte> out)>;

// Fills `out`, whole elements, from element `first` of the view in C order. Uses 1 MiB of memory.
// Errors: those of `read`.
[[nodiscard]] Result<void> gather(const StridedView& view, std::uint64_t first,
                                  std::span<std::byte> out, const ReadStorage& read);

}  // namespace flatbed::pth
