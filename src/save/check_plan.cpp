#include "flatbed/check_plan.hpp"

#include <unordered_map>
#include <vector>

#include "base/str_cat.hpp"
#include "save/save_source.hpp"
#include "value/tree_json.hpp"

namespace flatbed {

namespace {

// Adds the nodes that a node leads to.
void push_children(Value value, std::vector<NodeId>& pending) {
  pending.insert(pending.end(), value.children().begin(), value.children().end());
  if (value.kind() == Kind::object) {
    pending.push_back(value.callable().id());
    pending.push_back(value.arguments().id());
    for (std::size_t i = 0; i < value.appended_size(); ++i)
      pending.push_back(value.appended(i).id());
    if (const std::optional<Value> state = value.state()) pending.push_back(state->id());
  }
  pending.push_back(value.attributes().quantizer);
  pending.push_back(value.attributes().state);
}

// Every tensor that the root reaches is an item of the plan.
Result<void> check_numbers(const ValueTree& tree, std::size_t items) {
  std::vector<bool> seen(tree.size());
  if (tree.root().id() == kNoNode) return {};
  std::vector<NodeId> pending{tree.root().id()};
  while (!pending.empty()) {
    const NodeId id = pending.back();
    pending.pop_back();
    if (id == kNoNode || seen[id]) continue;
    seen[id] = true;
    const Value value = tree.value(id);
    if (const std::optional<std::uint32_t> tensor = value.tensor(); tensor && *tensor >= items) {
      return make_error(ErrorCode::tree_unknown_tensor, "the tree names tensor ", *tensor,
                        ", the plan has ", items);
    }
    push_children(value, pending);
  }
  return {};
}

}  // namespace

Result<void> check_tensor_numbers(const SavePlan& plan) {
  return check_numbers(plan.tree, plan.items.size());
}

Result<void> check_plan_tree(const SavePlan& plan) {
  if (plan.tree.root().id() == kNoNode) return {};
  FLATBED_TRY(check_tensor_numbers(plan));
  std::vector<std::string> names;
  std::unordered_map<std::string_view, TensorInfo> tensors;
  names.reserve(plan.items.size());
  for (const SaveItem& item : plan.items) {
    names.push_back(item.name);
    TensorInfo info;
    info.name = item.name;
    info.shape = item.shape;
    info.dtype = item.dtype;
    tensors.emplace(item.name, info);
  }
  FLATBED_ASSIGN(const std::string text, encode_tree(plan.tree, names));
  const auto find = [&](std::string_view name) -> const TensorInfo* {
    const auto found = tensors.find(name);
    return found == tensors.end() ? nullptr : &found->second;
  };
  const Result<ValueTree> decoded = decode_tree(text, find);
  if (!decoded) return decoded.error();
  return {};
}

}  // namespace flatbed
