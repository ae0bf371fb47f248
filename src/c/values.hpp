// A caller's flatbed_value and the Value that it stands for.
#pragma once

#include "c/arguments.hpp"
#include "c/handles.hpp"
#include "flatbed/value.hpp"

namespace flatbed::c {

[[nodiscard]] inline flatbed_value to_c(const flatbed_tree* tree, NodeId id) noexcept {
  return {tree, id, 0};
}

// The value of a tree that is one; None if the tree has no value of this number.
[[nodiscard]] inline Value value_of(flatbed_value value) noexcept {
  const ValueTree& tree = value.tree->tree;
  return tree.value(value.id < tree.size() ? value.id : kNoNode);
}

}  // namespace flatbed::c
