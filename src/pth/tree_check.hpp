// check_tree(): one walk over everything that the root of an unpickled tree reaches, each node
// once, without recursion.
#pragma once

#include <cstddef>
#include <vector>

#include "flatbed/result.hpp"
#include "flatbed/value.hpp"

namespace flatbed::pth {

// Which of `tensor_count` tensors are reached. Errors: torch_unsupported (a storage that no tensor
// was made of), pickle_duplicate_key (two equal keys in a dict or object). Linear in the nodes,
// whatever the keys.
[[nodiscard]] Result<std::vector<bool>> check_tree(const ValueTree& tree, std::size_t tensor_count);

}  // namespace flatbed::pth
