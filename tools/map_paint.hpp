// MapPaint: the colours of a map and what they stand for: dtypes, or what changed since another
// checkpoint. Borrows from the checkpoints. Immutable after it was made.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "flatbed/checkpoint.hpp"
#include "flatbed/diff.hpp"

namespace flatbed::tool {

struct MapGroup {
  std::string_view name;
  std::string_view colour;  // as in CSS
  std::uint64_t tensors = 0;
  std::uint64_t parameters = 0;
  std::uint64_t nbytes = 0;
};

struct MapPaint {
  std::vector<MapGroup> groups;         // the most bytes first
  std::vector<std::uint8_t> of_tensor;  // for each tensor, an index into groups
  // The next two only of changes. For each tensor how it differs, or nullptr; borrows the report.
  std::vector<const TensorDifference*> differences;
  std::vector<TensorInfo> removed;
};

inline constexpr std::string_view kMixedColour = "#b9b2a6";  // tiles of several groups

[[nodiscard]] MapPaint paint_dtypes(const Checkpoint& checkpoint);

// What changed from another checkpoint to this one, which is the second of the report.
[[nodiscard]] MapPaint paint_changes(const Checkpoint& checkpoint, const DiffReport& report);

}  // namespace flatbed::tool
