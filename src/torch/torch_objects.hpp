// TorchObjects: gives the globals, calls and persistent ids of a torch pickle their meaning,
// without importing or calling anything.
// The few calls that describe tensors become tensors of a TorchFile. Those that only spell Python
// values (bytes, sets, ordered dicts) get one canonical form. Every other call stays an inert
// object node. Borrows the TorchFile that it fills. Not thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "flatbed/result.hpp"
#include "flatbed/value.hpp"
#include "torch/numpy_objects.hpp"
#include "torch/torch_file.hpp"
#include "torch/torch_globals.hpp"
#include "torch/torch_tensors.hpp"

namespace flatbed::pth {

// Limit on streams within streams. torch only writes a storage within a pickle.
inline constexpr int kMaxNestedStreams = 4;
// Limit on the pickles of all nested streams together, for each byte of the outer pickle: it holds
// each stream once, and a stream may hold others.
inline constexpr std::uint64_t kMaxNestedRatio = kMaxNestedStreams;
// Limit on bytes decoded from texts, beyond the size of the pickles that hold the texts.
inline constexpr std::uint64_t kFreeDecodedBytes = 64 * 1024;
// Limit on items that calls copy, beyond one for each byte of the pickles. Picklers write each item
// once.
inline constexpr std::uint64_t kFreeCopies = 64 * 1024;

class TorchObjects {
 public:
  // `expected` is about the number of storages. The file's layout tells which pickler wrote it.
  TorchObjects(TorchFile& file, ByteOrder order, std::size_t expected = 0)
      : file_(file),
        tree_(file.tree),
        globals_(file.layout == TorchLayout::script ? Pickler::script : Pickler::python),
        tensors_(file, globals_, order, expected),
        numpy_(file, globals_, source_) {}
  TorchObjects(const TorchObjects&) = delete;
  TorchObjects& operator=(const TorchObjects&) = delete;

  // Python values in their canonical form. Long bytes become a tensor of their own.
  NodeId add_global(std::string_view module, std::string_view qualname);
  NodeId add_bytes(std::string_view bytes);
  NodeId add_bytearray(std::string_view bytes);
  NodeId add_set();  // empty; set_items() fills it
  NodeId add_frozenset(std::span<const NodeId> items);

  // The list that holds the items of a set made by add_set(); nullopt for all other nodes.
  [[nodiscard]] std::optional<NodeId> set_items(NodeId set) const;

  // The node of collections.OrderedDict, once a pickle has named it. Its call without arguments
  // stays a call; most calls of a whole model are of this kind.
  [[nodiscard]] NodeId ordered_dict_class() const noexcept { return ordered_dict_class_; }

  // Handles callable(*arguments). Errors: pickle_type (callable is neither a global nor an object,
  // or arguments is not a tuple), rebuild_malformed, tensor_out_of_storage, size_overflow,
  // torch_unsupported.
  [[nodiscard]] Result<NodeId> call(NodeId callable, NodeId arguments);

  // The value that a persistent id stands for. Errors: persistent_id_malformed, storage_conflict,
  // size_overflow, torch_unsupported, tensor_out_of_storage.
  [[nodiscard]] Result<NodeId> persistent(NodeId id);

  // Handles a BUILD that sets the contents of an array, or of a tensor as torch wrote it up to 0.3.
  // Returns false if it is something else. Errors: those of a call.
  [[nodiscard]] Result<bool> build(NodeId target, NodeId state);

  // Announces a pickle of this size, which may take memory and time in proportion.
  void begin_pickle(std::uint64_t nbytes);

  // Whether a call may copy this many of its arguments' items, which may be the same ones again and
  // again. If so, they count towards the limit.
  [[nodiscard]] bool take_copies(std::size_t count);

  // Begins another pickle. Returns the previous one, which continues afterwards.
  PickleSource exchange_source(const PickleSource& source) {
    return std::exchange(source_, source);
  }
  // Adds the tensor or storage that a tar's pickle calls `key`. Returns false if the key is taken.
  bool name_tar_object(std::int64_t key, NodeId node);
  [[nodiscard]] std::optional<NodeId> find_tar_object(std::int64_t key) const;

  [[nodiscard]] TorchFile& file() { return file_; }
  [[nodiscard]] TorchTensors& tensors() { return tensors_; }

  // Call once the tree has its root: checks it and drops tensors that it does not reach. Errors:
  // pickle_duplicate_key, pickle_type.
  [[nodiscard]] Result<void> finish();

 private:
  NodeId add_object(std::string_view module, std::string_view qualname,
                    std::span<const NodeId> arguments);
  // Each of these returns nullopt if the arguments have no canonical form. Then the call stays a
  // call.
  std::optional<NodeId> ordered_dict(NodeId callable, Value arguments);
  std::optional<NodeId> set_of(NodeId callable, Value arguments);
  std::optional<NodeId> bytearray_of(Value arguments);
  std::optional<NodeId> encoded(Value arguments);
  std::optional<NodeId> layout_named(Value arguments);
  [[nodiscard]] Result<NodeId> quantized(NodeId callable, Value arguments);
  [[nodiscard]] Result<NodeId> parameter(NodeId callable, Value arguments, std::size_t count);
  [[nodiscard]] Result<std::optional<NodeId>> dense(NodeId function, Value arguments);
  // torch_objects_device.cpp
  std::optional<NodeId> device_tensor(Value arguments);
  std::optional<NodeId> plugin_tensor(Value arguments);
  [[nodiscard]] Result<NodeId> from_type(NodeId callable, Value arguments);
  [[nodiscard]] Result<NodeId> module_class(Value id, std::size_t first);
  [[nodiscard]] Result<NodeId> tar_object(Value id);
  [[nodiscard]] Result<NodeId> typed_tensor(TorchGlobal type, Value arguments);
  std::optional<NodeId> variable(Meaning type, Value arguments);
  [[nodiscard]] Result<bool> build_variable(NodeId target, Value state);
  [[nodiscard]] Result<NodeId> load_from_bytes(Value arguments);
  PickleSource find_bytes(Value bytes);
  NodeId add_long_bytes(std::string_view bytes);
  [[nodiscard]] std::optional<std::uint64_t> source_offset(std::string_view bytes) const;
  void keep_storage(NodeId storage, std::vector<bool>& reached);
  void drop_unreached(const std::vector<bool>& reached);

  TorchFile& file_;
  ValueTree& tree_;
  TorchGlobals globals_;
  TorchTensors tensors_;
  NumpyObjects numpy_;
  NodeId ordered_dict_class_ = kNoNode;
  NodeId open_set_class_ = kNoNode;  // builtins.set, as a node of its own for the sets of add_set()
  PickleSource source_;
  // Short bytes objects in source_: node and offset there, in the order of the nodes.
  std::vector<std::pair<NodeId, std::uint64_t>> places_;
  std::map<std::int64_t, NodeId> tar_objects_;
  int nested_streams_ = 0;  // current nesting depth
  std::uint64_t nested_nbytes_ = 0;
  std::uint64_t max_nested_nbytes_ = 0;
  std::uint64_t decodable_nbytes_ = kFreeDecodedBytes;
  std::uint64_t copies_ = kFreeCopies;
  std::uint64_t dropped_sources_ = 0;
};

}  // namespace flatbed::pth
