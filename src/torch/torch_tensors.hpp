// TorchTensors: from persistent ids and the arguments of torch's rebuild functions to storages and
// tensors.
//
// Everything that a pickle says about a tensor is checked here against its storage, in checked
// arithmetic; whether a storage's record has the size that the pickle says is left to whoever knows
// the records.
//
// A storage has no node kind of its own: on its way from persistent id to rebuild function it is a
// `bytes` node whose tensor number has kStorageFlag set. None is left in a finished tree.
//
// Borrows the TorchFile that it fills and the globals. For one thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "flatbed/result.hpp"
#include "flatbed/value.hpp"
#include "io/large_allocator.hpp"
#include "io/name_index.hpp"
#include "torch/torch_file.hpp"
#include "torch/torch_globals.hpp"

namespace flatbed::pth {

inline constexpr std::size_t kMaxRank = 64;  // torch's own limit
inline constexpr std::uint32_t kStorageFlag = 0x80000000;

enum class ByteOrder : std::uint8_t { little, big };

// How a pickle names storages: not at all, as torch's zip files do, as its legacy streams do, or by
// the numbers of a tar's tables.
enum class PersistentIds : std::uint8_t { none, zip, legacy, tar };

// The pickle that is run: how it names storages, and where its bytes lie for good.
struct PickleSource {
  PersistentIds ids = PersistentIds::zip;
  std::span<const std::byte> bytes = {};  // empty: nowhere, so that what is kept is copied
  std::uint32_t held = kNotHeld;          // they lie in TorchFile::held[held], else in the file
  std::uint64_t offset = 0;               // from this byte on
};

// Part of a storage that a legacy file gives a key of its own.
struct StorageView {
  std::string key;
  std::uint32_t storage;
  std::uint64_t begin, nbytes;
};

// What the keys of one stream mean. A stream within a pickle has keys of its own.
struct StorageKeys {
  explicit StorageKeys(std::size_t expected = 0) : roots(expected) {}
  NameIndex roots;                   // numbers of TorchFile::storages, by key
  std::vector<std::uint32_t> named;  // the same, in the order of their first use
  NameIndex views;                   // into view_rows, by key
  std::vector<StorageView> view_rows;
};

class TorchTensors {
 public:
  // `expected`: about how many storages there will be.
  TorchTensors(TorchFile& file, const TorchGlobals& globals, ByteOrder order, std::size_t expected)
      : file_(file), tree_(file.tree), globals_(globals), order_(order), keys_(expected) {
    uses_.reserve(expected);
    use_nodes_.reserve(expected);
  }

  // The storage that a persistent id ('storage', class, key, location, count) stands for; that of a
  // legacy stream has a sixth item, the view. Errors: persistent_id_malformed, storage_conflict,
  // size_overflow, torch_unsupported, tensor_out_of_storage.
  [[nodiscard]] Result<NodeId> persistent(NodeId id, PersistentIds ids = PersistentIds::zip);

  // What such an id says, checked. Errors: as above.
  struct StorageText {
    Value type, key, location, count;
  };
  [[nodiscard]] Result<NodeId> name_storage(const StorageText& text);

  // `count` elements from `first` on of the storage that `root` stands for, under a key of their
  // own.
  struct ViewText {
    Value key, first, count;
  };
  [[nodiscard]] Result<NodeId> name_view(NodeId root, const ViewText& text);

  // Of the stream that is being read: its storages, and their number by key.
  [[nodiscard]] std::span<const std::uint32_t> named_storages() const { return keys_.named; }
  [[nodiscard]] std::optional<std::uint32_t> find_storage(std::string_view key) const;
  // Bytes of one of the elements in which the stream counts a storage's size.
  [[nodiscard]] std::uint64_t unit(std::uint32_t storage) const { return units_[storage]; }
  // Begins another stream; returns the keys of the one before, with which it is gone on with.
  StorageKeys exchange_keys(StorageKeys keys) { return std::exchange(keys_, std::move(keys)); }

  // A storage without a key, whose place is known.
  std::uint32_t add_placed(TorchStorage storage);

  // A tensor from a call of _rebuild_tensor, _v2 or _v3.
  // Errors: rebuild_malformed, tensor_out_of_storage, size_overflow, torch_unsupported.
  [[nodiscard]] Result<NodeId> rebuild(Meaning function, Value arguments);

  // A tensor from a call of _rebuild_qtensor. Nothing: a view of a tensor with several elements in
  // a byte, which stays a call. Errors: as above.
  [[nodiscard]] Result<std::optional<NodeId>> rebuild_quantized(Value arguments);

  // Another node for the tensor of `tensor`, as a Parameter. `arguments`: (data, requires_grad,
  // hooks[, state]).
  [[nodiscard]] Result<NodeId> rebuild_parameter(Value tensor, Value arguments);

  // The dtype of the storage that a node stands for; kNoTorchDtype: untyped.
  [[nodiscard]] std::uint8_t torch_dtype(Value storage) const {
    return uses_[*storage.tensor() & ~kStorageFlag].dtype;
  }

  // Counts backward hooks, which are code. Errors: rebuild_malformed.
  [[nodiscard]] Result<void> read_hooks(Value hooks);

  // A tensor of one dimension: all elements of the storage that a node stands for. Of a quantized
  // storage those are integers, or bytes.
  [[nodiscard]] NodeId whole_storage(Value storage);

  [[nodiscard]] std::uint64_t dropped_hooks() const noexcept { return dropped_hooks_; }

 private:
  // What one persistent id says beside the storage.
  struct StorageUse {
    std::uint32_t storage;
    std::uint8_t dtype;  // kNoTorchDtype: untyped
    NodeId location;
    std::uint64_t begin, nbytes;  // the part of the storage that it sees
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
    std::optional<std::vector<std::uint64_t>> own_shape = {};  // sizes are those of bytes
    NodeId quantizer = kNoNode;
  };

  [[nodiscard]] Result<std::uint32_t> add_storage(Value key, std::uint8_t dtype,
                                                  std::uint64_t nbytes);
  [[nodiscard]] Result<void> check_view_key(const StorageView& view);
  NodeId add_use(const StorageUse& use);
  [[nodiscard]] Result<void> read_view(Meaning function, Value arguments, View& view) const;
  [[nodiscard]] Result<void> read_flags(Meaning function, Value arguments, View& view);
  [[nodiscard]] Result<void> read_v3_dtype(Value dtype, View& view) const;
  [[nodiscard]] Result<bool> to_bytes(View& view) const;
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
  LargeVector<StorageUse> uses_;
  std::vector<NodeId> use_nodes_;  // per storage: the node of its last use, or kNoNode
  // Per storage: what a persistent id said, or kNoTorchDtype.
  std::vector<std::uint8_t> storage_dtypes_;
  std::vector<std::uint32_t> first_views_;  // per storage: its first tensor, or kNoTensor
  std::vector<std::uint8_t> units_;         // per storage: see unit()
  StorageKeys keys_;
  NameIndex later_views_;  // by view_key(); most storages have one view, which is not here
};

}  // namespace flatbed::pth
