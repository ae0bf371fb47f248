// Values of TorchScript archives that torch's C++ pickler writes differently from Python's. Pure
// functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "flatbed/value.hpp"

namespace flatbed::pth {

// The value of a call in its Python form. nullopt if it has none; then it stays a call.
//   torch.jit._pickle.build_intlist([...]), build_tensorlist, build_doublelist, build_boollist
//                                                       the list
//   torch.jit._pickle.restore_type_tag(value, type)     the value
//   __torch__.Color 1                                   __torch__.Color(1): the pickler does not
//                                                       wrap the value of an enum in a tuple
//   torch._utils._rebuild_sparse_tensor(number of the layout, size, requires_grad, ..., hooks)
//                                                       the arguments in Python's order
[[nodiscard]] std::optional<NodeId> script_value(ValueTree& tree, Value callable, Value arguments);

// The dtype of torch.<storage>. C++ names a storage for every dtype, Python only for the older
// ones. Returns an index into kTorchDtypes, or kNoTorchDtype.
[[nodiscard]] std::uint8_t torch_dtype_of_script_storage(std::string_view storage) noexcept;

}  // namespace flatbed::pth
