// What a checkpoint is, in the words of the people who make such files: "Lightning checkpoint,
// epoch 12". Decided by the keys of its tree alone.
#pragma once

#include <string>

#include "flatbed/checkpoint.hpp"

namespace flatbed::tool {

// Decodes the tree if the file has one. A malformed tree leaves only what the file is.
[[nodiscard]] std::string describe(const Checkpoint& checkpoint);

// The container by itself: "safetensors file", "sharded set of 3 files", "PyTorch file".
[[nodiscard]] std::string container_text(const Checkpoint& checkpoint);

}  // namespace flatbed::tool
