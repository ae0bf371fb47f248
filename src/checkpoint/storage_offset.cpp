#include "flatbed/storage_offset.hpp"

#include "checkpoint/checkpoint_access.hpp"
#include "torch/torch_container.hpp"

namespace flatbed {

std::optional<std::uint64_t> storage_offset(const Checkpoint& checkpoint,
                                            const TensorInfo& tensor) {
  if (tensor.stored == Stored::computed || tensor.stored == Stored::held) return std::nullopt;
  const TensorPlace place = CheckpointAccess::locate(checkpoint, tensor);
  if (place.container.layout() == Layout::safetensors) return std::nullopt;
  // Every other layout is one of PyTorch's.
  return static_cast<const pth::TorchContainer&>(place.container).storage_offset(place.number);
}

}  // namespace flatbed
