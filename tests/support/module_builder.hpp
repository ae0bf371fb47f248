// Torch modules as torch.save(model) pickles them, for tests: an object with the dict of its
// attributes as its state.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "flatbed/torch_module.hpp"
#include "flatbed/value.hpp"

namespace flatbed::test {

using Named = std::vector<std::pair<std::string_view, NodeId>>;

inline NodeId named_dict(ValueTree& tree, const Named& pairs) {
  const NodeId dict = tree.add_dict();
  for (const auto& [name, value] : pairs) tree.set_item(dict, tree.add_string(name), value);
  return dict;
}

// collections.OrderedDict, which older torches use.
inline NodeId named_ordered(ValueTree& tree, const Named& pairs) {
  const NodeId dict =
      tree.add_object(tree.add_global("collections", "OrderedDict"), tree.add_tuple({}));
  for (const auto& [name, value] : pairs) tree.set_item(dict, tree.add_string(name), value);
  return dict;
}

// {'a', 'b'}
inline NodeId named_set(ValueTree& tree, const std::vector<std::string_view>& texts) {
  const NodeId list = tree.add_list();
  for (const std::string_view text : texts) tree.append(list, tree.add_string(text));
  const NodeId items[] = {list};
  return tree.add_object(tree.add_global("builtins", "set"), tree.add_tuple(items));
}

// An object of the class m.`type` with these attributes.
inline NodeId instance(ValueTree& tree, std::string_view type, NodeId attributes) {
  const NodeId arguments[] = {tree.add_global("m", type)};
  const NodeId object =
      tree.add_object(tree.add_global("copyreg", "__newobj__"), tree.add_tuple(arguments));
  tree.set_state(object, attributes);
  return object;
}

struct ModuleParts {
  Named parameters = {}, buffers = {}, children = {};
  std::vector<std::string_view> not_persistent = {};
  Named before = {}, after = {};  // other attributes, before and after those of torch
};

inline NodeId module_attributes(ValueTree& tree, const ModuleParts& parts) {
  Named all = parts.before;
  all.emplace_back("training", tree.add_boolean(true));
  all.emplace_back("_parameters", named_dict(tree, parts.parameters));
  all.emplace_back("_buffers", named_ordered(tree, parts.buffers));
  all.emplace_back("_non_persistent_buffers_set", named_set(tree, parts.not_persistent));
  all.emplace_back("_state_dict_hooks", named_ordered(tree, {}));
  all.emplace_back("_modules", named_dict(tree, parts.children));
  all.insert(all.end(), parts.after.begin(), parts.after.end());
  return named_dict(tree, all);
}

inline NodeId module(ValueTree& tree, const ModuleParts& parts, std::string_view type = "Net") {
  return instance(tree, type, module_attributes(tree, parts));
}

// What torch.compile() makes of a module.
inline NodeId compiled(ValueTree& tree, NodeId inside) {
  const NodeId arguments[] = {inside, tree.add_none()};
  return tree.add_object(tree.add_global("torch._dynamo.eval_frame", "OptimizedModule"),
                         tree.add_tuple(arguments));
}

inline NodeId tensor(ValueTree& tree, std::uint32_t number) { return tree.add_tensor(number, {}); }

// The attributes of a module but for one, and with `more`.
inline NodeId attributes_without(ValueTree& tree, std::string_view left_out,
                                 const Named& more = {}) {
  Named all = more;
  for (const std::string_view name : {"_parameters", "_buffers", "_modules"}) {
    if (name != left_out) all.emplace_back(name, tree.add_dict());
  }
  return named_dict(tree, all);
}

// Of an object that is a module.
inline Result<StateDict> state_of(const ValueTree& tree, NodeId id) {
  return state_dict(TorchModule::of(tree.value(id)).value());
}

inline std::vector<std::string> names_of(const StateDict& weights) {
  std::vector<std::string> out;
  for (const StateEntry& entry : weights.entries) out.push_back(entry.name);
  return out;
}

}  // namespace flatbed::test
