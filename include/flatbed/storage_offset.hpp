// storage_offset(): where a tensor of a PyTorch file begins in its storage. With it, and the
// strides of the tree (TensorAttributes), views of one storage (TensorInfo::storage) can be put
// together again as torch.load does. Thread-safe.
#pragma once

#include <cstdint>
#include <optional>

#include "flatbed/checkpoint.hpp"
#include "flatbed/export.hpp"
#include "flatbed/tensor.hpp"

namespace flatbed {

// The place of the first element in bytes. `tensor` is one of checkpoint.tensors(). nullopt where
// the values are not those of a storage: of conjugated, negated and computed tensors, of those
// without elements, and of everything that is not a tensor of a PyTorch file.
[[nodiscard]] FLATBED_EXPORT std::optional<std::uint64_t> storage_offset(
    const Checkpoint& checkpoint, const TensorInfo& tensor);

}  // namespace flatbed
