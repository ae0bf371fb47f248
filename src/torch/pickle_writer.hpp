// write_pickle(): writes a value tree as the pickle of a torch.save file, in protocol 2. torch.load
// makes the same objects from it.
// Every object is written once and then referred to, so that shared and cyclic objects stay so.
// Nothing recurses, so trees may be nested to any depth. Objects that torch.load(weights_only=True)
// would refuse are refused here with their path, or converted, or kept, as the caller chooses.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "flatbed/result.hpp"
#include "flatbed/unsafe_objects.hpp"
#include "flatbed/value.hpp"
#include "torch/torch_form.hpp"

namespace flatbed::pth {

struct PickleOptions {
  UnsafeObjects unsafe_objects = UnsafeObjects::refuse;
  bool keep_device = false;  // false: every storage is on the cpu
  // Returns the bytes of a tensor that is written into the pickle itself: long bytes objects, and
  // arrays that are kept.
  std::function<Result<std::string>(std::uint32_t tensor)> contents;
};

struct TorchPickle {
  std::string bytes;
  // For each storage "0", "1", ...: the tensor with its contents.
  std::vector<std::uint32_t> storages;
  // What was converted: "collections.defaultdict became dict: 3 times, first at 'args'".
  std::vector<std::string> conversions;
};

// `tensors` are those that the tree's tensor nodes refer to by number. Errors:
// weights_only_refused, not_in_torch, tree_not_representable (a tuple that contains itself, a dict
// with keys that are equal in Python, such as 1 and 1.0), limit_exceeded, and those of `contents`.
[[nodiscard]] Result<TorchPickle> write_pickle(const ValueTree& tree,
                                               std::span<const StoredTensor> tensors,
                                               const PickleOptions& options);

}  // namespace flatbed::pth
