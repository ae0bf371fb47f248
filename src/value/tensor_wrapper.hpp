// Objects around a tensor that add nothing to its name: subclasses and Parameters of them (spec
// N6), and the state of an object with slots (spec N2). Pure functions, thread-safe.
#pragma once

#include <string_view>

#include "flatbed/value.hpp"

namespace flatbed {

// The key of a DTensor's own part in its state.
inline constexpr std::string_view kLocalTensor = "_local_tensor";

enum class Wrapper : std::uint8_t {
  none,
  subclass,   // torch._tensor._rebuild_from_type_v2(function, class, arguments, state)
  parameter,  // torch._utils._rebuild_parameter(data, requires_grad, hooks[, state])
};
[[nodiscard]] Wrapper wrapper_of(Value object);

// A tuple of the attributes and the slots, each a dict or None.
[[nodiscard]] bool is_slots_state(Value state);

}  // namespace flatbed
