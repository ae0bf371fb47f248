// The two objects that the module is about: an opened checkpoint and one of its tensors, as Python
// holds them. Both share the library's state, so each may outlive the other. May be used from
// several threads at once, with and without a GIL.
#pragma once

#include <nanobind/nanobind.h>

#include <mutex>
#include <optional>
#include <utility>

#include "flatbed/checkpoint.hpp"
#include "flatbed/private_view.hpp"
#include "flatbed/tensor.hpp"

namespace flatbed::python {

namespace nb = nanobind;

// flatbed.Checkpoint
class CheckpointObject {
 public:
  explicit CheckpointObject(Checkpoint checkpoint) : checkpoint_(std::move(checkpoint)) {}

  // A copy of the handle, which stays valid if another thread closes this object. Throws
  // ValueError if it is closed.
  [[nodiscard]] Checkpoint get() const;
  void close();
  [[nodiscard]] bool is_closed() const;

 private:
  mutable std::mutex mutex_;
  std::optional<Checkpoint> checkpoint_;
};

// flatbed.Tensor
class TensorObject {
 public:
  TensorObject(Checkpoint checkpoint, TensorInfo info)
      : checkpoint_(std::move(checkpoint)), info_(std::move(info)) {}

  [[nodiscard]] const Checkpoint& checkpoint() const { return checkpoint_; }
  [[nodiscard]] const TensorInfo& info() const { return info_; }
  // The bytes in memory, made on the first call and kept as long as this object. Blocks: call it
  // without the GIL.
  [[nodiscard]] Result<PrivateView> memory() const;

 private:
  Checkpoint checkpoint_;
  TensorInfo info_;
  mutable std::mutex mutex_;
  mutable std::optional<PrivateView> memory_;
};

}  // namespace flatbed::python
