// TorchTensors: turns persistent ids and the arguments of torch's rebuild functions into storages
// and tensors.
// It checks everything that a pickle states about a tensor against its storage, in checked
// arithmetic. Readers that know the records check that a storage's record has the size that the
// pickle states.
// A storage has no node kind of its own. Between persistent id and rebuild function it is a `bytes`
// node whose tensor number has kStorageFlag set. A finished tree has none.
// Borrows the TorchFile that it fills and the globals. Not thread-safe.
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

// The running pickle: how it names storages, and where its bytes stay.
struct PickleSource {
  PersistentIds ids = PersistentIds::zip;
  // If empty, the bytes do not stay, so they are copied where needed.
  std::span<const std::byte> bytes = {};
  // If set, they are in TorchFile::held[held], otherwise in the file.
  std::uint32_t held = kNotHeld;
  std::uint64_t offset = 0;  // offset of the pickle's first byte there
};

// Part of a storage to which a legacy file gives a key of its own.
struct StorageView {
  std::string key;
  std::uint32_t storage;
  std::uint64_t begin, nbytes;
};

// The keys of one stream. A stream within a pickle has keys of its own.
struct StorageKeys {
  explicit StorageKeys(std::size_t expected = 0) : roots(expected) {}
  NameIndex roots;                   // numbers of TorchFile::storages, by key
  std::vector<std::uint32_t> named;  // the same, in the order of their first use
  NameIndex views;                   // into view_rows, by key
  std::vector<StorageView> view_rows;
};

class TorchTensors {
 public:
  // `expected` is about the number of storages.
  TorchTensors(TorchFile& file, const TorchGlobals& globals, ByteOrder order, std::size_t expected)
      : file_(file), tree_(file.tree), globals_(globals), order_(order), keys_(expected) {
    uses_.reserve(expected);
    use_nodes_.reserve(expected);
  }

  // The storage that a persistent id ('storage', class, key, location, count) stands for. In a
  // legacy stream it has a sixth item, the view. Errors: persistent_id_malformed, storage_conflict,
  // size_overflow, torch_unsupported, tensor_out_of_storage.
  [[nodiscard]] Result<NodeId> persistent(NodeId id, PersistentIds ids = PersistentIds::zip);

  // The checked contents of such an id. Errors: as above.
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

  // The current stream's storages, and their numbers by key.
  [[nodiscard]] std::span<const std::uint32_t> named_storages() const { return keys_.named; }
  [[nodiscard]] std::optional<std::uint32_t> find_storage(std::string_view key) const;
  // Size in bytes of one of the elements in which the stream counts a storage's size.
  [[nodiscard]] std::uint64_t unit(std::uint32_t storage) const { return units_[storage]; }
  // Begins another stream. Returns the previous keys, which are used again afterwards.
  StorageKeys exchange_keys(StorageKeys keys) { return std::exchange(keys_, std::move(keys)); }

  // A storage without a key, whose place is known.
  std::uint32_t add_placed(TorchStorage storage);

  // A tensor from a call of _rebuild_tensor, _v2 or _v3.
  // Errors: rebuild_malformed, tensor_out_of_storage, size_overflow, torch_unsupported.
  [[nodiscard]] Result<NodeId> rebuild(Meaning function, Value arguments);

  // A tensor from a call of _rebuild_qtensor. nullopt for a view of a tensor with several elements
  // in a byte, which stays a call. Errors: as above.
  [[nodiscard]] Result<std::optional<NodeId>> rebuild_quantized(Value arguments);

  // Another node for the tensor of `tensor`, as a Parameter. `arguments` is (data, requires_grad,
  // hooks[, state]).
  [[nodiscard]] Result<NodeId> rebuild_parameter(Value tensor, Value arguments);

  // The dtype of the storage that a node stands for; kNoTorchDtype if it is untyped.
  [[nodiscard]] std::uint8_t torch_dtype(Value storage) const {
    return uses_[*storage.tensor() & ~kStorageFlag].dtype;
  }

  // Counts backward hooks, which are code. Errors: rebuild_malformed.
  [[nodiscard]] Result<void> read_hooks(Value hooks);

  // A one-dimensional tensor with all elements of the storage that a node stands for. In a
  // quantized storage these are integers, or bytes.
  [[nodiscard]] NodeId whole_storage(Value storage);

  [[nodiscard]] std::uint64_t dropped_hooks() const noexcept { return dropped_hooks_; }

 private:
  // What one persistent id states besides the storage.
  struct StorageUse {
    std::uint32_t storage;
    std::uint8_t dtype;  // kNoTorchDtype if untyped
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
    std::optional<std::vector<std::uint64_t>> own_shape = {};  // set if sizes are those of bytes
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
  std::vector<NodeId> use_nodes_;  // for each storage: the node of its last use, or kNoNode
  // For each storage: what a persistent id stated, or kNoTorchDtype.
  std::vector<std::uint8_t> storage_dtypes_;
  std::vector<std::uint32_t> first_views_;  // for each storage: its first tensor, or kNoTensor
  std::vector<std::uint8_t> units_;         // for each storage: see unit()
  StorageKeys keys_;
  // By view_key(); holds only second and later views, as most storages have one.
  NameIndex later_views_;
};

}  // namespace flatbed::pth
