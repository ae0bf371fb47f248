// write_pickle(): a value tree as the pickle of a torch.save file, protocol 2, of which torch.load
// makes the same objects.
//
// Every object is written once and remembered where it is reached again, so that what is shared or
// cyclic stays so. Nothing recurses: trees may be as deep as they like. What
// torch.load(weights_only=True) would refuse is refused here, with its path; or converted, or kept,
// as the caller says.
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
  // The bytes of a tensor, for what stands in the pickle itself: long bytes objects, and arrays
  // that are kept.
  std::function<Result<std::string>(std::uint32_t tensor)> contents;
};

struct TorchPickle {
  std::string bytes;
  // The tensor whose contents are the storage "0", "1", ...
  std::vector<std::uint32_t> storages;
  // "collections.defaultdict became dict: 3 times, first at 'args'": what was converted.
  std::vector<std::string> conversions;
};

// `tensors`: what the tree's tensor nodes count into. Errors: weights_only_refused, not_in_torch,
// tree_not_representable (a tuple that contains itself), limit_exceeded, those of `contents`.
[[nodiscard]] Result<TorchPickle> write_pickle(const ValueTree& tree,
                                               std::span<const StoredTensor> tensors,
                                               const PickleOptions& options);

}  // namespace flatbed::pth
