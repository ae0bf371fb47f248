// ModuleTree: the modules of a checkpoint, as the dots in the names of its tensors say, with what
// lies in each: tensors, parameters, bytes. Borrows names from the checkpoint. Immutable after it
// was made.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "flatbed/checkpoint.hpp"

namespace flatbed::tool {

// What the first level below the root is.
enum class MapLevel : std::uint8_t { module, shard };

struct ModuleNode {
  std::string_view path;                // of a tensor its name, of a module what it begins with
  std::string_view label;               // the last component of the path
  std::uint32_t parent = 0;             // of the root: itself
  std::optional<std::uint32_t> tensor;  // an index into tensors(): the node is a tensor
  std::uint64_t tensors = 0;            // these three do not wrap: they stop at the largest number
  std::uint64_t parameters = 0;
  std::uint64_t nbytes = 0;
  double weight = 0;                    // nbytes that do not stop
  std::vector<std::uint32_t> children;  // the largest first
};

struct ModuleTree {
  std::vector<ModuleNode> nodes;  // the root first, parents before their children
  std::uint64_t empty = 0;        // tensors of 0 bytes, which the tree leaves out
};

// A path has at most 32 modules; what is left of a deeper one is the label of its tensor.
[[nodiscard]] ModuleTree module_tree(const Checkpoint& checkpoint, MapLevel first);

}  // namespace flatbed::tool
