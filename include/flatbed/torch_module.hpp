// TorchModule: a torch.nn.Module that was pickled whole, by torch.save(model), as data; and
// state_dict(), what its state_dict() would return.
//
// A module is known by its form, whatever its class: an object whose attributes are a dict with the
// dicts `_parameters`, `_buffers` and `_modules`. Nothing of the model's code is needed or run.
// What torch.compile(model) makes is pickled in another form: as a call on the model that it wraps.
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

// The name of the model inside what torch.compile made of it: "_orig_mod.conv1.weight".
inline constexpr std::string_view kWrappedModule = "_orig_mod";

class FLATBED_EXPORT TorchModule {
 public:
  // Nothing, where the value is no module. Takes bounded time, however long its parts are.
  [[nodiscard]] static std::optional<TorchModule> of(Value value);

  [[nodiscard]] Value object() const { return object_; }
  [[nodiscard]] Value type() const;  // its class, a global; or what was called to make it
  [[nodiscard]] Value attributes() const { return attributes_; }  // the dict that it had
  // Dicts, or OrderedDicts, by name: of tensors or None; of modules or None.
  [[nodiscard]] Value parameters() const { return parameters_; }
  [[nodiscard]] Value buffers() const { return buffers_; }
  [[nodiscard]] Value children() const { return children_; }
  // What torch.compile made has no parts of its own, which are None then, but the object inside.
  [[nodiscard]] std::optional<Value> wrapped() const;
  // An attribute that torch itself gives every module, such as "_state_dict_hooks".
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
  Value value;       // a tensor, or the object that stands for a tensor that is not dense
};

struct StateDict {
  std::vector<StateEntry> entries;   // in torch's order; what is shared stands under all its names
  std::vector<std::string> notes;    // what torch may do otherwise, one sentence each
  std::uint64_t not_persistent = 0;  // buffers that are no part of it
};

// What module.state_dict() returns: parameters, persistent buffers, then those of the children.
// Errors: tree_not_representable (a module that contains itself), limit_exceeded (modules that
// share others so that there would be more names than any file can hold).
[[nodiscard]] FLATBED_EXPORT Result<StateDict> state_dict(const TorchModule& module);

// Adds the OrderedDict of name -> tensor that `weights` says, of the same tree; returns its node.
// As torch detaches them, its tensors are no parameters and do not require grad.
FLATBED_EXPORT NodeId add_state_dict(ValueTree& tree, const StateDict& weights);

}  // namespace flatbed
