#include "flatbed/tree_json.hpp"

#include <vector>

#include "checkpoint/checkpoint_access.hpp"
#include "value/tree_json.hpp"

namespace flatbed {

Result<ValueTree> tree_of(const Checkpoint& checkpoint) {
  FLATBED_ASSIGN(const Value root, checkpoint.tree());
  FLATBED_ASSIGN(ValueTree tree, CheckpointAccess::copy_tree(checkpoint));
  // A selection's tree may begin below the root of the one that it shares.
  tree.set_root(root.id());
  return tree;
}

Result<std::string> tree_json(const Checkpoint& checkpoint) {
  FLATBED_ASSIGN(const ValueTree tree, tree_of(checkpoint));
  std::vector<std::string> names;
  names.reserve(checkpoint.tensors().size());
  for (const TensorInfo& tensor : checkpoint.tensors()) names.emplace_back(tensor.name);
  return encode_tree(tree, names);
}

}  // namespace flatbed
