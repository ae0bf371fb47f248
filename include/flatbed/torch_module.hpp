// TorchModule: a torch.nn.Module that was pickled whole by torch.save(model), as data.
// state_dict(): the result that its state_dict() would have.
//
// A module is recognized by its form, whatever its class: an object whose attributes are a dict
// with the dicts `_parameters`, `_buffers` and `_modules`. The model's code is neither needed nor
// run. The result of torch.compile(model) has another form: a call on the model that it wraps.
//
//   if (const auto module = TorchModule::of(root)) {
//     FLATBED_ASSIGN(const StateDict weights, state_dict(*module));
//     for (const StateEntry& entry : weights.entries) use(entry.name, entry.value);
//   }
//
// Pure functions that borrow the tree; thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "flatbed/export.hpp"
#include "flatbed/result.hpp"
#include "flatbed/value.hpp"

namespace flatbed {

// The name of the model inside the result of torch.compile: "_orig_mod.conv1.weight".
inline constexpr std::string_view kWrappedModule = "_orig_mod";

class FLATBED_EXPORT TorchModule {
 public:
  // nullopt if the value is not a module. Takes bounded time, however long its parts are.
  [[nodiscard]] static std::optional<TorchModule> of(Value value);

  [[nodiscard]] Value object() const { return object_; }
  [[nodiscard]] Value type() const;  // its class, a global; or the callable that made it
  [[nodiscard]] Value attributes() const { return attributes_; }  // the dict of its attributes
  // Dicts, or OrderedDicts, by name: of tensors or None; of modules or None.
  [[nodiscard]] Value parameters() const { return parameters_; }
  [[nodiscard]] Value buffers() const { return buffers_; }
  [[nodiscard]] Value children() const { return children_; }
  // The result of torch.compile has no parts of its own (they are None), but an object inside.
  [[nodiscard]] std::optional<Value> wrapped() const;
  // Whether torch itself gives every module this attribute, such as "_state_dict_hooks".
  [[nodiscard]] std::optional<Value> find(std::string_view attribute) const;

 private:
  TorchModule(Value object, Value attributes, Value parameters, Value buffers, Value children)
      : object_(object),
        attributes_(attributes),
        parameters_(parameters),
        buffers_(buffers),
        children_(children) {}

  Value object_, attributes_, parameters_, buffers_, children_;
};

struct StateEntry {
  std::string name;  // "conv1.weight"
  Value value;       // a tensor, or the object for a tensor that is not dense
};

struct StateDict {
  std::vector<StateEntry> entries;   // in torch's order; a shared value appears under all its names
  std::vector<std::string> notes;    // possible differences from torch, one sentence each
  std::uint64_t not_persistent = 0;  // buffers that are not part of it
};

// What module.state_dict() returns: parameters, persistent buffers, then those of the children.
// Errors: tree_not_representable (a module that contains itself), limit_exceeded (modules that
// share others, so that there would be more names than any file can hold).
[[nodiscard]] FLATBED_EXPORT Result<StateDict> state_dict(const TorchModule& module);

// Adds the OrderedDict of name -> tensor described by `weights`, of the same tree, and returns its
// node. Its tensors are not parameters and do not require grad, because torch detaches them.
FLATBED_EXPORT NodeId add_state_dict(ValueTree& tree, const StateDict& weights);

}  // namespace flatbed
