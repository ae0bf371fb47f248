// The differences between two trees. Leaves are compared by value, containers entry by entry, and
// tensors by their attributes: their contents are diff()'s business. Pure functions; thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>

#include "flatbed/diff.hpp"
#include "flatbed/result.hpp"
#include "flatbed/value.hpp"

namespace flatbed {

inline constexpr std::size_t kMaxTreeDifferences = 10'000;
inline constexpr std::uint64_t kMaxTreePathNbytes = 64 << 20;  // of the differences
// Two small trees with cycles can have very many pairs of containers at the same places.
inline constexpr std::size_t kMaxContainerPairs = 2'000'000;
inline constexpr std::uint64_t kMaxTreeEntries = 400'000'000;

// Appends the differences to report.tree. Each pair of nodes is compared once, whatever cycles and
// sharing there are. Errors: limit_exceeded (more pairs or entries than above).
[[nodiscard]] Result<void> compare_trees(Value a, Value b, DiffReport& report);

}  // namespace flatbed
