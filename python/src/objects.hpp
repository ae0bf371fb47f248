// The two objects that the module is about: an opened checkpoint and one of its tensors, as Python
// holds them. Both share the library's state, so each may outlive the other. May be used from
// several threads at once, with and without a GIL.
#pragma once

#include <nanobind/nanobind.h>

#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <utility>

#include "flatbed/checkpoint.hpp"
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

// A tensor's bytes in memory that may be written: nobody else sees what is written. Copies share
// it.
struct TensorMemory {
  std::shared_ptr<const void> owner;
  std::span<std::byte> bytes;
  bool is_mapping = false;  // of the file; otherwise the bytes were read
};

// flatbed.Tensor
class TensorObject {
 public:
  TensorObject(Checkpoint checkpoint, TensorInfo info)
      : checkpoint_(std::move(checkpoint)), info_(std::move(info)) {}

  [[nodiscard]] const Checkpoint& checkpoint() const { return checkpoint_; }
  [[nodiscard]] const TensorInfo& info() const { return info_; }
  // The bytes as a PrivateView, made on the first call and kept as long as this object: mapped and
  // not verified where they are stored plainly, otherwise read. Blocks: call it without the GIL.
  [[nodiscard]] Result<TensorMemory> memory() const;
  // The bytes, read and verified into memory of their own. Blocks likewise.
  [[nodiscard]] Result<TensorMemory> read_copy() const;

 private:
  Checkpoint checkpoint_;
  TensorInfo info_;
  mutable std::mutex mutex_;
  mutable std::optional<TensorMemory> memory_;
};

}  // namespace flatbed::python
