// The files that one `flatbed convert` reads and writes, from its command line. Looks up the kinds
// of the paths and reads nothing else.
//
//   flatbed convert a.pth                       writes a.safetensors beside it
//   flatbed convert a.pth b.safetensors         two paths, the second ends in .safetensors: IN OUT
//   flatbed convert a.safetensors b.pth         the second ends in .pth, .pt, .bin or .ckpt and is
//                                               not there, or the first does not: IN OUT
//   flatbed convert a.pth b.pth c.pth           writes one .safetensors beside each
//   flatbed convert a.pth b.pth --out-dir DIR   writes DIR/a.safetensors, DIR/b.safetensors
//   flatbed convert --sidecar a.safetensors     writes a.safetensors.flatbed.json
#pragma once

#include <filesystem>
#include <vector>

#include "commands.hpp"
#include "flatbed/result.hpp"

namespace flatbed::tool {

struct ConvertJob {
  std::filesystem::path input;
  std::filesystem::path output;
  bool torch = false;  // the output is a PyTorch file; otherwise a safetensors file or a sidecar
};

struct ConvertJobs {
  std::vector<ConvertJob> jobs;
  bool batch = false;  // several inputs, or --out-dir; skips outputs that are up to date
};

// Errors: invalid_argument and name_collision, both for mistakes in the command line.
[[nodiscard]] Result<ConvertJobs> plan_jobs(const ConvertOptions& options);

}  // namespace flatbed::tool
