// TorchTensors: from persistent ids and the arguments of torch's rebuild functions to storages and
// tensors.
//
// Everything that a pickle says about a tensor is checked here against its storage, in checked
// arithmetic; whether a storage's record has the size that the pickle says is left to whoever knows
// the records.
//
// A storage has no node kind of its own: on its way from persistent id to rebuild function it is a
// `bytes` node whose tensor number has kStorageFlag set. None may be left in a finished tree.
//
// Borrows the TorchFile that it fills and the globals. For one thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "flatbed/result.hpp"
#include "flatbed/value.hpp"
#include "io/name_index.hpp"
#include "pth/torch_file.hpp"
#include "pth/torch_globals.hpp"

namespace flatbed::pth {

inline constexpr std::size_t kMaxRank = 64;  // torch's own limit
inline constexpr std::uint32_t kStorageFlag = 0x80000000;

enum class ByteOrder : std::uint8_t { little, big };

class TorchTensors {
 public:
  // `expected`: about how many storages there will be.
  TorchTensors(TorchFile& file, const TorchGlobals& globals, ByteOrder order, std::size_t expected)
      : file_(file), tree_(file.tree), globals_(globals), order_(order), storages_(expected) {}

  // The storage that a persistent id ('storage', class, key, location, count) stands for.
  // Errors: persistent_id_malformed, storage_conflict, size_overflow, torch_unsupported.
  [[nodiscard]] Result<NodeId> persistent(NodeId id);

  // A tensor from a call of _rebuild_tensor, _v2 or _v3.
  // Errors: rebuild_malformed, tensor_out_of_storage, size_overflow, torch_unsupported.
  [[nodiscard]] Result<NodeId> rebuild(Meaning function, Value arguments);

  // Another node for the tensor of `tensor`, as a Parameter. `arguments`: (data, requires_grad,
  // hooks[, state]).
  [[nodiscard]] Result<NodeId> rebuild_parameter(Value tensor, Value arguments);

  [[nodiscard]] std::uint64_t dropped_hooks() const noexcept { return dropped_hooks_; }

 private:
  // What one persistent id says beside the storage.
  struct StorageUse {
    std::uint32_t storage;
    std::uint8_t dtype;  // kNoTorchDtype: untyped
    NodeId location;
  };

  struct View {
    StorageUse use;
    std::uint8_t dtype;
    std::uint64_t offset;
    std::size_t rank;
    std::array<std::uint64_t, kMaxRank> sizes;
    std::array<std::uint64_t, kMaxRank> strides;
    std::uint64_t numel;
    std::uint64_t nbytes;
    bool contiguous;
    bool requires_grad = false;
    bool conjugate = false;
    bool negate = false;
  };

  [[nodiscard]] Result<std::uint32_t> add_storage(Value key, std::uint8_t dtype,
                                                  std::uint64_t nbytes);
  [[nodiscard]] Result<void> read_view(Meaning function, Value arguments, View& view) const;
  [[nodiscard]] Result<void> read_flags(Meaning function, Value arguments, View& view);
  [[nodiscard]] Result<void> read_v3_dtype(Value dtype, View& view) const;
  [[nodiscard]] Result<void> read_hooks(Value hooks);
  [[nodiscard]] Result<void> check_view(View& view) const;
  std::uint32_t add_view(const View& view);
  [[nodiscard]] std::optional<std::uint32_t> equal_view(std::uint32_t tensor);
  [[nodiscard]] std::string_view view_key(std::uint32_t tensor) const;
  [[nodiscard]] TensorAttributes attributes_of(const View& view) const;

  TorchFile& file_;
  ValueTree& tree_;
  const TorchGlobals& globals_;
  ByteOrder order_;
  std::uint64_t dropped_hooks_ = 0;
  std::vector<StorageUse> uses_;
  std::vector<std::uint8_t>
      storage_dtypes_;  // per storage: what a persistent id said, or kNoTorchDtype
  std::vector<std::uint32_t> first_views_;  // per storage: its first tensor, or kNoTensor
  NameIndex storages_;                      // by key
  NameIndex later_views_;  // by view_key(); most storages have one view, which is not here
};

}  // namespace flatbed::pth
