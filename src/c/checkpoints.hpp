// What the C functions over checkpoints have in common.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <utility>

#include "c/arguments.hpp"
#include "c/handles.hpp"
#include "flatbed/c_handles.hpp"
#include "flatbed/result.hpp"

namespace flatbed::c {

// A new handle, which becomes the caller's.
[[nodiscard]] inline Result<void> give(Checkpoint checkpoint, flatbed_checkpoint** out) {
  *out = flatbed::to_c(std::move(checkpoint));
  return {};
}

// contents.cpp: borrows what the checkpoint has.
[[nodiscard]] flatbed_tensor tensor_to_c(const TensorInfo& info);

// The tensor of this number. `checkpoint` is a caller's.
[[nodiscard]] inline Result<TensorInfo> tensor_at(const flatbed_checkpoint* checkpoint,
                                                  std::uint64_t index, std::string_view parameter) {
  FLATBED_TRY(check(checkpoint, "checkpoint"));
  const std::span<const TensorInfo> tensors = checkpoint->checkpoint.tensors();
  if (index >= tensors.size()) return index_error(index, tensors.size(), parameter);
  return tensors[index];
}

}  // namespace flatbed::c
