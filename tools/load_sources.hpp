// The checkpoints of one `flatbed load`, opened and narrowed to the selection. Sources own their
// checkpoints. Not thread-safe.
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
  // The device that the tree states for each tensor, or "cpu" if it states none. Empty unless
  // LoadCommandOptions::map is used.
  std::vector<std::string> homes;
};

// Each error names the path.
[[nodiscard]] Result<std::vector<LoadSource>> open_sources(const LoadCommandOptions& options);

}  // namespace flatbed::tool
