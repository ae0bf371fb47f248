// The files that one `flatbed convert` reads and writes, from its command line.
//
//   flatbed convert a.pth                       writes a.safetensors beside it
//   flatbed convert a.pth -o b.safetensors      writes b.safetensors
//   flatbed convert a.safetensors -o b.pth      a PyTorch file; OUT ends in .pth .pt .bin or .ckpt
//   flatbed convert a.pth b.safetensors         IN OUT: two paths of different kinds
//   flatbed convert FOLDER -o NEW               writes NEW/model.safetensors
//   flatbed convert a.pth -o NEW --max-shard-size 5GB   writes a sharded set into the folder NEW
//   flatbed convert a.pth b.pth c.pth           writes one .safetensors beside each
//   flatbed convert a.pth b.pth --out-dir DIR   writes DIR/a.safetensors, DIR/b.safetensors
//   flatbed convert --sidecar a.safetensors     writes a.safetensors.flatbed.json
//
// Looks up the kinds of the paths, and of a folder that is converted into another what lies in it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "commands.hpp"
#include "flatbed/result.hpp"

namespace flatbed::tool {

struct ConvertJob {
  std::filesystem::path input;
  std::filesystem::path output;
  bool torch = false;  // the output is a PyTorch file; otherwise a safetensors file or a sidecar
  // Whether --force may replace the output. One that is only the second of two paths may have been
  // meant as an input.
  bool replaceable = true;
  std::filesystem::path folder;        // of the output, made if it is missing; empty: it must exist
  std::uint64_t max_shard_nbytes = 0;  // the output is a folder with a sharded set; 0: a file
};

struct ConvertJobs {
  std::vector<ConvertJob> jobs;
  bool batch = false;  // several inputs, or --out-dir; ends with a table
};

// Errors: invalid_argument and name_collision, both for mistakes in the command line; those of
// Checkpoint::open() for a folder.
[[nodiscard]] Result<ConvertJobs> plan_jobs(const ConvertOptions& options);

// The output of a single input, as far as options and names say it: for a folder that -o names, the
// folder. Opens nothing. Errors: invalid_argument.
[[nodiscard]] Result<std::filesystem::path> planned_output(const ConvertOptions& options);

// Whether the name is that of a folder, as far as it says that. Opens nothing.
[[nodiscard]] bool may_name_folder(const std::filesystem::path& output);

// The closest directory or file on the way to `path` that exists, which may be `path` itself.
[[nodiscard]] std::filesystem::path existing_parent(const std::filesystem::path& path);

// The first directory that must be made so that the directory `path`, which does not exist, does.
[[nodiscard]] std::filesystem::path first_missing(const std::filesystem::path& path);

}  // namespace flatbed::tool
