// load_all(): all tensors of a checkpoint into one block of a device's memory, to be looked up by
// name.
//
//   FLATBED_ASSIGN(const LoadedTensors loaded, load_all(model, device));
//   const LoadedTensor* weight = loaded.find("fc.weight");  // null: there is none
//
// It loads any checkpoint, also one that Checkpoint::select() made. Options choose a slice of each
// tensor, leave tensors out, and divide them into groups, for example one for each layer:
//
//   LoadAllOptions options;
//   options.group = group_by_layer;
//   options.slice = [](const TensorInfo& tensor) -> Result<Slice> {
//     if (tensor.shape.size() < 2) return Slice{};  // a bias: all of it
//     return shard_slice(tensor, 0, 1, 2);          // the second half of a weight's rows
//   };
//   FLATBED_ASSIGN(const LoadedTensors second_half, load_all(model, device, options));
//
// Engines with memory of their own lay it out with MemoryLayout and fill it with a LoadPlan.
//
// LoadedTensors owns the memory and shares the checkpoint. It borrows the device, which must
// outlive it. What it hands out (names, shapes, pointers) is valid as long as it lives, also after
// it was moved. For any thread once load_all() has returned it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>

#include "flatbed/checkpoint.hpp"
#include "flatbed/device.hpp"
#include "flatbed/dtype.hpp"
#include "flatbed/export.hpp"
#include "flatbed/load.hpp"
#include "flatbed/result.hpp"
#include "flatbed/tensor.hpp"

namespace flatbed {

// Places in one block of memory, one after the other. Each begins at a multiple of `alignment`, a
// power of two; one of 1 MiB or more at a multiple of 4096 at least, so that a load that reads past
// the page cache can read straight into it. For one thread.
class FLATBED_EXPORT MemoryLayout {
 public:
  static constexpr std::uint64_t kUsualAlignment = 256;
  explicit MemoryLayout(std::uint64_t alignment = kUsualAlignment) : least_(alignment) {}

  // The offset of the next `nbytes`; of no bytes, 0. Errors: size_overflow; invalid_argument for an
  // alignment that is no power of two or more than 2 MiB.
  [[nodiscard]] Result<std::uint64_t> place(std::uint64_t nbytes);

  // Of the whole block so far, and where it must begin: at a multiple of alignment().
  [[nodiscard]] std::uint64_t nbytes() const noexcept { return nbytes_; }
  [[nodiscard]] std::uint64_t alignment() const noexcept { return alignment_; }

 private:
  std::uint64_t least_;
  std::uint64_t alignment_ = 1;
  std::uint64_t nbytes_ = 0;
};

struct LoadedTensor {
  std::string_view name;      // its own, also where an alias found it
  ShapeView shape;            // of what arrived: after slicing
  std::byte* data = nullptr;  // memory of the device; null where nbytes is 0
  std::uint64_t nbytes = 0;   // C order, little endian, packed
  std::uint32_t index = 0;    // of the tensor in Checkpoint::tensors()
  std::uint32_t group = 0;    // Group::id
  Dtype dtype = Dtype::u8;
};

// Move-only.
class FLATBED_EXPORT LoadedTensors {
 public:
  LoadedTensors(LoadedTensors&& other) noexcept;
  LoadedTensors& operator=(LoadedTensors&& other) noexcept;
  ~LoadedTensors();

  // In the checkpoint's order, without those that were left out.
  [[nodiscard]] std::span<const LoadedTensor> tensors() const&;
  std::span<const LoadedTensor> tensors() const&& = delete;
  // The tensor of this name or alias; nullptr when it was not loaded. Constant time.
  [[nodiscard]] const LoadedTensor* find(std::string_view name_or_alias) const&;
  const LoadedTensor* find(std::string_view) const&& = delete;

  [[nodiscard]] std::uint64_t nbytes() const noexcept;  // that are allocated, gaps included
  [[nodiscard]] const LoadReport& report() const& noexcept;
  const LoadReport& report() const&& = delete;

 private:
  friend struct LoadAll;
  struct State;
  explicit LoadedTensors(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

struct LoadAllOptions {
  LoadOptions load = {};
  // Of each tensor in the device's memory, see MemoryLayout.
  std::uint64_t alignment = MemoryLayout::kUsualAlignment;
  // All callbacks are called on the calling thread and must not throw; an error of one ends
  // load_all(), which returns it. The first three are asked about each tensor in turn: whether it
  // is loaded (unset: every one is), which part of it (unset: all of it), and in which group
  // (unset: 0).
  std::function<bool(const TensorInfo&)> include = {};
  std::function<Result<Slice>(const TensorInfo&)> slice = {};
  std::function<Group(const TensorInfo&)> group = {};
  // Called after every tensor has its place and before anything is read, with what load_all() will
  // return, except for the report: `load.ready` can then know where a group's tensors are. Tensors
  // and pointers taken from it stay valid as long as the result, or until load_all() returns an
  // error.
  std::function<Result<void>(const LoadedTensors&)> placed = {};
};

// Makes one allocation, or none if nothing has bytes. Blocking; an error gives the memory back.
// Errors: those of DeviceBuffer::allocate(), MemoryLayout::place(), LoadPlan::add() and load(), and
// those of the callbacks.
[[nodiscard]] FLATBED_EXPORT Result<LoadedTensors> load_all(const Checkpoint& checkpoint,
                                                            Device& device,
                                                            const LoadAllOptions& options = {});

// A rule for LoadAllOptions::group: a tensor's layer is the first whole number between the dots of
// its name, so that "model.layers.7.mlp.weight" is in group 7, and layers come in order. Tensors
// without a layer are in group kNoLayer, which comes first: embeddings are among them.
inline constexpr std::uint32_t kNoLayer = ~std::uint32_t{0};
[[nodiscard]] FLATBED_EXPORT Group group_by_layer(const TensorInfo& tensor) noexcept;

}  // namespace flatbed
