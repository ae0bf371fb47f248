// The differences between two trees. Leaves are compared by value, containers entry by entry, and
// tensors by their attributes: their contents are diff()'s business. Pure functions; thread-safe.
#pragma once

#include <cstddef>

#include "flatbed/diff.hpp"
#include "flatbed/value.hpp"

namespace flatbed {

inline constexpr std::size_t kMaxTreeDifferences = 10'000;

// Appends the differences to report.tree. Each pair of nodes is compared once, whatever cycles and
// sharing there are.
void compare_trees(Value a, Value b, DiffReport& report);

}  // namespace flatbed
