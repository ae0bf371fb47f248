#include "torch/torch_globals.hpp"

#include <array>

#include "torch/script_pickle.hpp"

namespace flatbed::pth {

namespace {

struct NameRow {
  std::string_view module, name;
  Meaning meaning;
};

constexpr std::array kNames{
    NameRow{"collections", "OrderedDict", Meaning::ordered_dict},
    NameRow{"builtins", "set", Meaning::set},
    NameRow{"builtins", "frozenset", Meaning::frozenset},
    NameRow{"builtins", "bytes", Meaning::bytes},
    NameRow{"builtins", "bytearray", Meaning::bytearray},
    NameRow{"_codecs", "encode", Meaning::encode},
    NameRow{"torch._utils", "_rebuild_tensor", Meaning::rebuild_tensor},
    NameRow{"torch._utils", "_rebuild_tensor_v2", Meaning::rebuild_tensor_v2},
    NameRow{"torch._utils", "_rebuild_tensor_v3", Meaning::rebuild_tensor_v3},
    NameRow{"torch._utils", "_rebuild_qtensor", Meaning::rebuild_qtensor},
    NameRow{"torch._utils", "_rebuild_parameter", Meaning::rebuild_parameter},
    NameRow{"torch._utils", "_rebuild_parameter_with_state", Meaning::rebuild_parameter_with_state},
    NameRow{"torch._utils", "_rebuild_device_tensor_from_numpy", Meaning::rebuild_device_tensor},
    NameRow{"torch._utils", "_rebuild_device_tensor_from_cpu_tensor",
            Meaning::rebuild_device_tensor},
    NameRow{"torch._utils", "_rebuild_xla_tensor", Meaning::rebuild_device_tensor},
    NameRow{"torch._utils", "_rebuild_mlc_tensor", Meaning::rebuild_device_tensor},
    NameRow{"torch._tensor", "_rebuild_from_type_v2", Meaning::rebuild_from_type},
    NameRow{"torch._tensor", "_rebuild_from_type", Meaning::rebuild_from_type},
    // torch 1.8 called the module torch._tensor torch.tensor.
    NameRow{"torch.tensor", "_rebuild_from_type", Meaning::rebuild_from_type},
    NameRow{"torch.tensor", "_rebuild_from_type_v2", Meaning::rebuild_from_type},
    NameRow{"torch", "Tensor", Meaning::tensor_class},
    NameRow{"torch.nn.parameter", "Parameter", Meaning::parameter_class},
    NameRow{"torch.autograd.variable", "Variable", Meaning::variable_class},
    NameRow{"torch.storage", "_load_from_bytes", Meaning::load_from_bytes},
    NameRow{"torch", "Size", Meaning::size_class},
    NameRow{"torch.serialization", "_get_layout", Meaning::get_layout},
    NameRow{"torch.storage", "UntypedStorage", Meaning::untyped_storage_class},
    NameRow{"torch.storage", "_UntypedStorage", Meaning::untyped_storage_class},
    NameRow{"torch", "UntypedStorage", Meaning::untyped_storage_class},
    NameRow{"numpy", "ndarray", Meaning::numpy_array_class},
    NameRow{"numpy", "dtype", Meaning::numpy_dtype_class},
    // numpy 2 renamed its modules.
    NameRow{"numpy.core.multiarray", "_reconstruct", Meaning::numpy_reconstruct},
    NameRow{"numpy._core.multiarray", "_reconstruct", Meaning::numpy_reconstruct},
    NameRow{"numpy.core.numeric", "_frombuffer", Meaning::numpy_frombuffer},
    NameRow{"numpy._core.numeric", "_frombuffer", Meaning::numpy_frombuffer},
    NameRow{"numpy.core.multiarray", "scalar", Meaning::numpy_scalar},
    NameRow{"numpy._core.multiarray", "scalar", Meaning::numpy_scalar},
};

// The function with which a device's plug-in makes its tensors: _rebuild_npu_tensor of torch_npu.
bool rebuilds_plugin_tensor(std::string_view module, std::string_view qualname) noexcept {
  return qualname.starts_with("_rebuild_") && qualname.ends_with("_tensor") &&
         module.starts_with("torch_");
}

}  // namespace

TorchGlobal find_torch_global(std::string_view module, std::string_view qualname) noexcept {
  for (const NameRow& row : kNames) {
    if (row.module == module && row.name == qualname) return {row.meaning};
  }
  if (module == "torch" || module == "torch.cuda") {
    const std::uint8_t dtype = torch_dtype_of_storage(qualname);
    if (dtype != kNoTorchDtype) return {Meaning::storage_class, dtype};
    const std::uint8_t element = torch_dtype_of_tensor(qualname);
    if (element != kNoTorchDtype) return {Meaning::typed_tensor_class, element};
  }
  if (module == "torch") {
    const std::uint8_t dtype = torch_dtype_named(qualname);
    if (dtype != kNoTorchDtype) return {Meaning::dtype, dtype};
  }
  if (rebuilds_plugin_tensor(module, qualname)) return {Meaning::rebuild_plugin_tensor};
  return {};
}

NodeId TorchGlobals::add(ValueTree& tree, std::string_view module, std::string_view qualname) {
  TorchGlobal global = find_torch_global(module, qualname);
  if (pickler_ == Pickler::script && global.meaning == Meaning::none && module == "torch") {
    const std::uint8_t dtype = torch_dtype_of_script_storage(qualname);
    if (dtype != kNoTorchDtype) global = {Meaning::storage_class, dtype};
  }
  if (global.meaning == Meaning::none) return tree.add_global(module, qualname);
  for (const Row& row : rows_) {
    const Value value = tree.value(row.node);
    if (value.text() == module && value.qualname() == qualname) return row.node;
  }
  rows_.push_back({tree.add_global(module, qualname), global});
  return rows_.back().node;
}

TorchGlobal TorchGlobals::find(NodeId node) const noexcept {
  for (const Row& row : rows_) {
    if (row.node == node) return row.global;
  }
  return {};
}

}  // namespace flatbed::pth
