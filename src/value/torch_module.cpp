// Recognizes modules. state_dict.cpp collects their state.
#include "flatbed/torch_module.hpp"

#include <algorithm>
#include <array>

namespace flatbed {

namespace {

constexpr std::size_t kMaxScanned = 256;  // torch's own attributes are among a module's first

bool is_global(Value value, std::string_view module, std::string_view name) {
  return value.kind() == Kind::global && value.text() == module && value.qualname() == name;
}

// Whether a value is a dict or an OrderedDict.
bool is_mapping(Value value) {
  return value.kind() == Kind::dict || (value.kind() == Kind::object &&
                                        is_global(value.callable(), "collections", "OrderedDict"));
}

std::optional<Value> find_key(Value dict, std::string_view wanted) {
  const std::size_t count = std::min(dict.size(), kMaxScanned);
  for (std::size_t i = 0; i < count; ++i) {
    const Value key = dict.key(i);
    if (key.kind() == Kind::string && key.text() == wanted) return dict.item(i);
  }
  return std::nullopt;
}

// The dict of an object's attributes: its state, the first of (dict, slots), or the dict from which
// torch.fx makes a module.
std::optional<Value> attributes_of(Value object) {
  if (const std::optional<Value> state = object.state()) {
    const bool pair = state->kind() == Kind::tuple && state->size() == 2;
    const Value dict = pair ? state->item(0) : *state;
    return dict.kind() == Kind::dict ? std::optional(dict) : std::nullopt;
  }
  const Value arguments = object.arguments();
  if (!is_global(object.callable(), "torch.fx.graph_module", "reduce_graph_module") ||
      arguments.size() == 0 || arguments.item(0).kind() != Kind::dict)
    return std::nullopt;
  return arguments.item(0);
}

// What torch.compile made: OptimizedModule(model, compiler), without a state.
bool is_compiled(Value object) {
  return is_global(object.callable(), "torch._dynamo.eval_frame", "OptimizedModule") &&
         !object.state() && object.arguments().size() != 0 &&
         object.arguments().item(0).kind() == Kind::object;
}

}  // namespace

std::optional<TorchModule> TorchModule::of(Value value) {
  if (value.kind() != Kind::object || is_mapping(value)) return std::nullopt;
  const std::optional<Value> attributes = attributes_of(value);
  if (!attributes && is_compiled(value)) {
    const Value none = value.node(kNoNode);
    return TorchModule(value, none, none, none, none);
  }
  if (!attributes) return std::nullopt;
  constexpr std::array<std::string_view, 3> kParts{"_parameters", "_buffers", "_modules"};
  std::array<std::optional<Value>, 3> parts;
  const std::size_t count = std::min(attributes->size(), kMaxScanned);
  for (std::size_t i = 0, found = 0; i < count && found < parts.size(); ++i) {
    const Value key = attributes->key(i);
    if (key.kind() != Kind::string || !key.text().starts_with('_')) continue;
    const auto part = std::ranges::find(kParts, key.text());
    if (part == kParts.end()) continue;
    parts[static_cast<std::size_t>(part - kParts.begin())] = attributes->item(i);
    ++found;
  }
  for (const std::optional<Value>& part : parts) {
    if (!part || !is_mapping(*part)) return std::nullopt;
  }
  return TorchModule(value, *attributes, *parts[0], *parts[1], *parts[2]);
}

Value TorchModule::type() const {
  const Value callable = object_.callable();
  const Value arguments = object_.arguments();
  // copyreg's functions make an instance of the class that is their first argument.
  const bool instance = callable.kind() == Kind::global && callable.text() == "copyreg" &&
                        arguments.size() != 0 && arguments.item(0).kind() == Kind::global;
  return instance ? arguments.item(0) : callable;
}

std::optional<Value> TorchModule::wrapped() const {
  if (attributes_.id() != kNoNode) return std::nullopt;
  return object_.arguments().item(0);
}

std::optional<Value> TorchModule::find(std::string_view attribute) const {
  return find_key(attributes_, attribute);
}

}  // namespace flatbed
