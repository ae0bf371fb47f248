#include "value/tensor_wrapper.hpp"

namespace flatbed {

namespace {

bool is_dict_or_none(Value value) {
  return value.kind() == Kind::dict || value.kind() == Kind::none;
}

}  // namespace

Wrapper wrapper_of(Value object) {
  const std::size_t arguments = object.arguments().size();
  if (arguments != 3 && arguments != 4) return Wrapper::none;
  const Value function = object.callable();
  if (function.kind() != Kind::global) return Wrapper::none;
  const std::string_view module = function.text();
  const std::string_view name = function.qualname();
  // torch 1.8 called the module torch._tensor torch.tensor.
  if (arguments == 4 && (module == "torch._tensor" || module == "torch.tensor") &&
      (name == "_rebuild_from_type_v2" || name == "_rebuild_from_type"))
    return Wrapper::subclass;
  if (module != "torch._utils") return Wrapper::none;
  const bool fits =
      arguments == 3 ? name == "_rebuild_parameter" : name == "_rebuild_parameter_with_state";
  return fits ? Wrapper::parameter : Wrapper::none;
}

bool is_slots_state(Value state) {
  return state.kind() == Kind::tuple && state.size() == 2 && is_dict_or_none(state.item(0)) &&
         is_dict_or_none(state.item(1));
}

}  // namespace flatbed
