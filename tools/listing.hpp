// Listing: one checkpoint as `ls` shows it: the part that was chosen, the order of its tensors, and
// with --stats their values. Immutable after it was made.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

#include "commands.hpp"
#include "flatbed/checkpoint.hpp"
#include "tensor_stats.hpp"

namespace flatbed::tool {

struct Listing {
  std::filesystem::path path;
  Checkpoint checkpoint;
  std::vector<std::uint32_t> order;               // indexes of tensors
  std::vector<std::optional<TensorStats>> stats;  // for each tensor; empty without --stats

  // The error of a tree that cannot be read.
  [[nodiscard]] std::optional<Error> tree_error() const;
};

// Opens a checkpoint and takes the part that the options choose. Reads tensors for --stats only.
[[nodiscard]] Result<Listing> make_listing(const std::filesystem::path& path,
                                           const LsOptions& options);

}  // namespace flatbed::tool
