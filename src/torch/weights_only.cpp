#include "torch/weights_only.hpp"

#include <algorithm>
#include <array>

#include "torch/torch_dtype.hpp"

namespace flatbed::pth {

namespace {

struct NameRow {
  std::string_view module, name;
  bool callable = false;
};

constexpr std::array kNames{
    NameRow{"collections", "OrderedDict", true},
    NameRow{"collections", "Counter", true},
    NameRow{"builtins", "set", true},
    NameRow{"builtins", "bytearray", true},
    NameRow{"builtins", "complex", true},
    NameRow{"_codecs", "encode", true},
    NameRow{"torch", "Size", true},
    NameRow{"torch", "device", true},
    NameRow{"torch", "Tensor"},
    NameRow{"torch.nn.parameter", "Parameter", true},
    NameRow{"torch.serialization", "_get_layout", true},
    NameRow{"torch", "per_tensor_affine"},
    NameRow{"torch", "per_tensor_symmetric"},
    NameRow{"torch", "per_channel_affine"},
    NameRow{"torch", "per_channel_symmetric"},
    NameRow{"torch", "per_channel_affine_float_qparams"},
    NameRow{"torch._utils", "_rebuild_tensor"},
    NameRow{"torch._utils", "_rebuild_tensor_v2"},
    NameRow{"torch._utils", "_rebuild_tensor_v3"},
    NameRow{"torch._utils", "_rebuild_qtensor"},
    NameRow{"torch._utils", "_rebuild_parameter", true},
    NameRow{"torch._utils", "_rebuild_parameter_with_state", true},
    NameRow{"torch._utils", "_rebuild_sparse_tensor", true},
    NameRow{"torch._utils", "_rebuild_meta_tensor_no_storage", true},
    NameRow{"torch._utils", "_rebuild_nested_tensor", true},
    NameRow{"torch._utils", "_rebuild_wrapper_subclass", true},
    NameRow{"torch._utils", "_rebuild_device_tensor_from_numpy", true},
    NameRow{"torch._utils", "_rebuild_device_tensor_from_cpu_tensor", true},
    NameRow{"torch._tensor", "_rebuild_from_type_v2", true},
    // Allowed by the modules themselves: torch.nested, and torch._dynamo, which notes ranges of
    // dimensions in the jagged tensors that torch makes.
    NameRow{"torch._dynamo.decorators", "_DimRange"},
    NameRow{"torch.nested._internal.nested_tensor", "NestedTensor"},
    NameRow{"torch.nested._internal.nested_tensor", "_rebuild_njt", true},
};

constexpr std::array<std::string_view, 8> kLayouts{"strided",    "sparse_coo", "sparse_csr",
                                                   "sparse_csc", "sparse_bsr", "sparse_bsc",
                                                   "_mkldnn",    "jagged"};

const NameRow* find_name(std::string_view module, std::string_view name) noexcept {
  const auto row = std::find_if(kNames.begin(), kNames.end(), [&](const NameRow& candidate) {
    return candidate.module == module && candidate.name == name;
  });
  return row == kNames.end() ? nullptr : &*row;
}

bool is_global(Value value, std::string_view module, std::string_view name) {
  return value.kind() == Kind::global && value.text() == module && value.qualname() == name;
}

// An instance of a class that is allowed with any state.
bool is_dim_range(Value object) {
  const Value arguments = object.arguments();
  return is_global(object.callable(), "copyreg", "__newobj__") && arguments.size() == 1 &&
         is_global(arguments.item(0), "torch._dynamo.decorators", "_DimRange") &&
         object.size() == 0;
}

}  // namespace

bool is_layout(std::string_view module, std::string_view name) noexcept {
  return module == "torch" && std::find(kLayouts.begin(), kLayouts.end(), name) != kLayouts.end();
}

bool allows_global(std::string_view module, std::string_view name) noexcept {
  if (module == "torch" && torch_dtype_named(name) != kNoTorchDtype) return true;
  return is_layout(module, name) || find_name(module, name) != nullptr;
}

bool loads_global(std::string_view module, std::string_view name) noexcept {
  if (allows_global(module, name)) return true;
  if (module == "torch.storage") return name == "UntypedStorage" || name == "TypedStorage";
  const bool cuda = module == "torch.cuda";
  const bool sparse = module == "torch.sparse" || module == "torch.cuda.sparse";
  if (module != "torch" && !cuda && !sparse) return false;
  if (const std::uint8_t dtype = torch_dtype_of_storage(name); dtype != kNoTorchDtype)
    return !sparse && !(cuda && is_quantized(kTorchDtypes[dtype]));
  const std::uint8_t dtype = torch_dtype_of_tensor(name);
  return dtype != kNoTorchDtype && !is_quantized(kTorchDtypes[dtype]) &&
         !kTorchDtypes[dtype].complex && !(sparse && name == "BoolTensor");
}

bool allows_object(Value object) {
  const Value callable = object.callable();
  if (callable.kind() != Kind::global || object.appended_size() != 0) return false;
  if (is_dim_range(object)) return true;
  const NameRow* row = find_name(callable.text(), callable.qualname());
  if (row == nullptr || !row->callable) return false;
  const bool ordered = is_global(callable, "collections", "OrderedDict");
  const bool keyed = ordered || is_global(callable, "collections", "Counter");
  if (object.size() != 0 && !keyed) return false;
  const std::optional<Value> state = object.state();
  return !state || (ordered && state->kind() == Kind::dict);
}

Value class_of(Value object) {
  const Value callable = object.callable();
  const bool by_class = is_global(callable, "copyreg", "__newobj__") ||
                        is_global(callable, "copyreg", "__newobj_ex__") ||
                        is_global(callable, "copyreg", "_reconstructor");
  const Value arguments = object.arguments();
  return by_class && arguments.size() != 0 ? arguments.item(0) : callable;
}

}  // namespace flatbed::pth
