// plan_sidecar(): everything of a sidecar but the digests of the data (spec C1).
//   {"flatbed":"<header>/1/<content>","flatbed.digests":"<16 digits per chunk, in name order>"}
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "flatbed/checkpoint.hpp"
#include "flatbed/result.hpp"
#include "safetensors/seal.hpp"

namespace flatbed {

// Owns a handle of the checkpoint, from which the tensors borrow. Const members are thread-safe.
struct PlannedSidecar {
  Checkpoint checkpoint;
  std::vector<safetensors::SealTensor> tensors;
  std::vector<std::uint32_t> order;  // by name
  safetensors::DigestSlots slots;
  std::string header_digest;

  [[nodiscard]] std::uint64_t nbytes() const;
  // The content digest for these digests of the data.
  [[nodiscard]] std::string content(std::string_view digests) const;
  [[nodiscard]] std::string text(std::string_view content, std::string_view digests) const;
};

// Opens the one safetensors file at `path`, which must not have a seal of its own. Errors: those of
// Checkpoint::open(), invalid_argument, limit_exceeded.
[[nodiscard]] Result<PlannedSidecar> plan_sidecar(const std::filesystem::path& path);

[[nodiscard]] std::filesystem::path sidecar_path(const std::filesystem::path& path);

}  // namespace flatbed
