// Tensors of one storage that will be stored apart, although torch gave them the same memory: such
// as a matrix and its transpose. Equal views are one tensor and stay shared. Views that are
// interleaved but share no byte, such as columns, are not noted. Pure function.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "io/text_list.hpp"
#include "torch/torch_file.hpp"

namespace flatbed::pth {

// A note that names two of them, if there are any. `order` holds the tensors' numbers in the file
// by the order of their names.
[[nodiscard]] std::optional<std::string> shared_views_note(const TorchFile& file,
                                                           std::span<const std::uint32_t> order,
                                                           const TextList& names);

}  // namespace flatbed::pth
