#include "torch/pickle_writer.hpp"

#include "torch/tree_pickler.hpp"

namespace flatbed::pth {

Result<TorchPickle> write_pickle(const ValueTree& tree, std::span<const StoredTensor> tensors,
                                 const PickleOptions& options) {
  if (options.unsafe_objects != UnsafeObjects::convert)
    return TreePickler(tree, tensors, options).run();
  ValueTree editable = tree;
  return TreePickler(editable, tensors, options, &editable).run();
}

}  // namespace flatbed::pth
