// What torch's C++ pickler writes otherwise than Python's does: the values of TorchScript archives.
// Pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "flatbed/value.hpp"

namespace flatbed::pth {

// The value of a call in its Python form. Nothing: the call has none, and stays as it is.
//
//   torch.jit._pickle.build_intlist([...]), build_tensorlist, build_doublelist, build_boollist
//                                                       the list
//   torch.jit._pickle.restore_type_tag(value, type)     the value
//   __torch__.Color 1                                   __torch__.Color(1): of enums the pickler
//                                                       wraps the value in no tuple
//   torch._utils._rebuild_sparse_tensor(number of the layout, size, requires_grad, ..., hooks)
//                                                       the arguments in Python's order
[[nodiscard]] std::optional<NodeId> script_value(ValueTree& tree, Value callable, Value arguments);

// torch.<storage>: C++ has a name for the storage of every dtype, Python for the older ones alone.
// An index into kTorchDtypes, or kNoTorchDtype.
[[nodiscard]] std::uint8_t torch_dtype_of_script_storage(std::string_view storage) noexcept;

}  // namespace flatbed::pth
