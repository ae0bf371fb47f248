// The checkpoints of one `flatbed load`, opened and narrowed to what was asked for. Sources own
// their checkpoints; for one thread.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "commands.hpp"
#include "flatbed/checkpoint.hpp"
#include "flatbed/result.hpp"

namespace flatbed::tool {

struct LoadSource {
  std::filesystem::path path;
  Checkpoint checkpoint;  // the selection
  // For each of its tensors the device that the tree says it was on; "cpu" where it says none.
  // Empty unless LoadCommandOptions::map asks.
  std::vector<std::string> homes;
};

// Errors name the path.
[[nodiscard]] Result<std::vector<LoadSource>> open_sources(const LoadCommandOptions& options);

}  // namespace flatbed::tool
