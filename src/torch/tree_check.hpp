// check_tree(): one walk over everything that the root of an unpickled tree reaches. It visits each
// node once, without recursion.
#pragma once

#include <cstddef>
#include <vector>

#include "flatbed/result.hpp"
#include "flatbed/value.hpp"

namespace flatbed::pth {

// Errors: pickle_duplicate_key, pickle_type, as below. Linear in the keys.
[[nodiscard]] Result<void> check_keys(Value dict_or_object);

struct Reached {
  std::vector<bool> tensors;     // by number
  std::vector<NodeId> storages;  // nodes of storages that are values themselves
};

// What is reached of a tree and its `tensor_count` tensors. Errors: pickle_duplicate_key (two equal
// keys in a dict or object), pickle_type (an array as a key). Linear in the nodes, whatever the
// keys.
[[nodiscard]] Result<Reached> check_tree(const ValueTree& tree, std::size_t tensor_count);

}  // namespace flatbed::pth
