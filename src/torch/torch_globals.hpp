// TorchGlobals: the closed list of classes and functions that flatbed understands in a pickle. Each
// one occurs in a tree as a single node, so that a call's meaning is found by the node's number.
// Names match exactly; all others have no meaning.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "flatbed/value.hpp"
#include "torch/torch_dtype.hpp"

namespace flatbed::pth {

enum class Meaning : std::uint8_t {
  none,
  bytes,
  bytearray,
  set,
  frozenset,
  ordered_dict,
  encode,      // _codecs.encode: how protocols 0 to 2 spell bytes
  get_layout,  // torch.serialization._get_layout
  rebuild_tensor,
  rebuild_tensor_v2,
  rebuild_tensor_v3,
  rebuild_qtensor,
  rebuild_parameter,
  rebuild_parameter_with_state,
  rebuild_from_type,
  rebuild_device_tensor,  // for devices whose tensors have no storage, such as XLA's
  rebuild_plugin_tensor,  // a plug-in's _rebuild_npu_tensor and similar: like rebuild_tensor_v2
  tensor_class,
  parameter_class,
  variable_class,      // torch.autograd.variable.Variable: a tensor, up to 0.3
  typed_tensor_class,  // torch.FloatTensor and similar, up to 0.3: of one dtype
  load_from_bytes,     // torch.storage._load_from_bytes: bytes that hold a legacy stream
  size_class,
  storage_class,  // of one dtype
  untyped_storage_class,
  dtype,
  numpy_array_class,
  numpy_dtype_class,
  numpy_reconstruct,  // an empty array, which BUILD fills
  numpy_frombuffer,
  numpy_scalar,
};

struct TorchGlobal {
  Meaning meaning = Meaning::none;
  // Of a storage class, tensor class or dtype: into kTorchDtypes.
  std::uint8_t dtype = kNoTorchDtype;
};

// The meaning of this name in torch.
[[nodiscard]] TorchGlobal find_torch_global(std::string_view module,
                                            std::string_view qualname) noexcept;

// The writer of a pickle: Python's pickler, or torch's own in C++, used in TorchScript archives.
enum class Pickler : std::uint8_t { python, script };

// Not thread-safe; borrows nothing.
class TorchGlobals {
 public:
  explicit TorchGlobals(Pickler pickler = Pickler::python) : pickler_(pickler) {}

  // The node of a global: the existing one if the name has a meaning, otherwise a new one.
  NodeId add(ValueTree& tree, std::string_view module, std::string_view qualname);

  [[nodiscard]] TorchGlobal find(NodeId node) const noexcept;

  [[nodiscard]] Pickler pickler() const noexcept { return pickler_; }

 private:
  struct Row {
    NodeId node;
    TorchGlobal global;
  };
  Pickler pickler_;
  std::vector<Row> rows_;  // the globals that occurred: a handful
};

}  // namespace flatbed::pth
