#include "torch/script_pickle.hpp"

#include <algorithm>
#include <array>

#include "torch/torch_dtype.hpp"

namespace flatbed::pth {

namespace {

struct StorageRow {
  std::string_view storage, dtype;
};

constexpr std::array kStorages{
    StorageRow{"ComplexHalfStorage", "complex32"},
    StorageRow{"BComplex32Storage", "bcomplex32"},
    StorageRow{"UInt16Storage", "uint16"},
    StorageRow{"UInt32Storage", "uint32"},
    StorageRow{"UInt64Storage", "uint64"},
    StorageRow{"Float8_e4m3fnStorage", "float8_e4m3fn"},
    StorageRow{"Float8_e5m2Storage", "float8_e5m2"},
    StorageRow{"Float8_e4m3fnuzStorage", "float8_e4m3fnuz"},
    StorageRow{"Float8_e5m2fnuzStorage", "float8_e5m2fnuz"},
    StorageRow{"Float8_e8m0fnuStorage", "float8_e8m0fnu"},
    StorageRow{"Float4_e2m1fn_x2Storage", "float4_e2m1fn_x2"},
    StorageRow{"Bits8Storage", "bits8"},
    StorageRow{"Bits1x8Storage", "bits1x8"},
    StorageRow{"Bits2x4Storage", "bits2x4"},
    StorageRow{"Bits4x2Storage", "bits4x2"},
    StorageRow{"Bits16Storage", "bits16"},
    StorageRow{"Int1Storage", "int1"},
    StorageRow{"Int2Storage", "int2"},
    StorageRow{"Int3Storage", "int3"},
    StorageRow{"Int4Storage", "int4"},
    StorageRow{"Int5Storage", "int5"},
    StorageRow{"Int6Storage", "int6"},
    StorageRow{"Int7Storage", "int7"},
    StorageRow{"UInt1Storage", "uint1"},
    StorageRow{"UInt2Storage", "uint2"},
    StorageRow{"UInt3Storage", "uint3"},
    StorageRow{"UInt4Storage", "uint4"},
    StorageRow{"UInt5Storage", "uint5"},
    StorageRow{"UInt6Storage", "uint6"},
    StorageRow{"UInt7Storage", "uint7"},
};
static_assert(std::all_of(kStorages.begin(), kStorages.end(), [](const StorageRow& row) {
  const std::uint8_t dtype = torch_dtype_named(row.dtype);
  return dtype != kNoTorchDtype && kTorchDtypes[dtype].storage.empty();
}));

constexpr std::array<std::string_view, 4> kListBuilders{"build_intlist", "build_tensorlist",
                                                        "build_doublelist", "build_boollist"};

std::optional<NodeId> jit_value(Value callable, Value arguments) {
  if (arguments.kind() != Kind::tuple) return std::nullopt;
  const std::string_view name = callable.qualname();
  const bool list = std::ranges::find(kListBuilders, name) != kListBuilders.end();
  if (list && arguments.size() == 1 && arguments.item(0).kind() == Kind::list)
    return arguments.item(0).id();
  const bool tagged = name == "restore_type_tag" && arguments.size() == 2;
  return tagged ? std::optional(arguments.item(0).id()) : std::nullopt;
}

// A tensor of coordinates has (1, size, requires_grad, indices, values, hooks). A CSR matrix has
// (2, size, requires_grad, rows, columns, values, hooks). Python's form has no place for
// requires_grad, so a call that sets it stays a call.
std::optional<NodeId> sparse(ValueTree& tree, Value callable, Value arguments) {
  const std::size_t count = arguments.size();
  if (count != 6 && count != 7) return std::nullopt;
  const bool rows = count == 7;
  const bool fits = arguments.item(0).as_int() == (rows ? 2 : 1) &&
                    arguments.item(1).kind() == Kind::tuple && arguments.item(2).as_bool() == false;
  if (!fits) return std::nullopt;
  std::array<NodeId, 4> parts{};
  const std::size_t tensors = rows ? 3 : 2;
  for (std::size_t i = 0; i < tensors; ++i) {
    const Value tensor = arguments.item(3 + i);
    if (tensor.kind() != Kind::tensor) return std::nullopt;
    parts[i] = tensor.id();
  }
  parts[tensors] = arguments.item(1).id();
  const std::array form{tree.add_global("torch", rows ? "sparse_csr" : "sparse_coo"),
                        tree.add_tuple(std::span(parts).first(tensors + 1))};
  return tree.add_object(callable.id(), tree.add_tuple(form));
}

}  // namespace

std::optional<NodeId> script_value(ValueTree& tree, Value callable, Value arguments) {
  if (callable.kind() != Kind::global) return std::nullopt;
  const std::string_view module = callable.text();
  if (module == "torch.jit._pickle") return jit_value(callable, arguments);
  const bool script = module == "__torch__" || module.starts_with("__torch__.");
  if (script && arguments.kind() != Kind::tuple) {
    const std::array value{arguments.id()};
    return tree.add_object(callable.id(), tree.add_tuple(value));
  }
  if (module == "torch._utils" && callable.qualname() == "_rebuild_sparse_tensor" &&
      arguments.kind() == Kind::tuple)
    return sparse(tree, callable, arguments);
  return std::nullopt;
}

std::uint8_t torch_dtype_of_script_storage(std::string_view storage) noexcept {
  const auto row = std::ranges::find(kStorages, storage, &StorageRow::storage);
  return row == kStorages.end() ? kNoTorchDtype : torch_dtype_named(row->dtype);
}

}  // namespace flatbed::pth
