// What a checkpoint is, in the field's words: "Lightning checkpoint, epoch 12". Only the keys of
// its tree decide.
#pragma once

#include <string>

#include "flatbed/checkpoint.hpp"

namespace flatbed::tool {

// Decodes the tree if the file has one. If the tree is malformed, the text names the container
// only.
[[nodiscard]] std::string describe(const Checkpoint& checkpoint);

// The container alone: "safetensors file", "sharded set of 3 files", "PyTorch file".
[[nodiscard]] std::string container_text(const Checkpoint& checkpoint);

}  // namespace flatbed::tool
