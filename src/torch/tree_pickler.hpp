// TreePickler: writes a value tree into a PickleOutput for write_pickle(). It has four sources:
// the walk, containers and objects (tree_pickler.cpp); tensors and numpy values
// (tree_pickler_tensors.cpp); objects that are converted (tree_pickler_convert.cpp); the check of
// keys (tree_pickler_keys.cpp).
//
// The walk is a stack of steps. A step writes something, or pushes further steps. The steps that
// stand for places in containers form the path to the current node.
//
// Borrows the tree. Use once, on one thread.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "flatbed/torch_module.hpp"
#include "pickle/pickle_output.hpp"
#include "torch/pickle_writer.hpp"

namespace flatbed::pth {

class TreePickler {
 public:
  // `editable` is the tree itself, where modules may be replaced by their state dicts.
  TreePickler(const ValueTree& tree, std::span<const StoredTensor> tensors,
              const PickleOptions& options, ValueTree* editable = nullptr);
  [[nodiscard]] Result<TorchPickle> run();

 private:
  enum class Do : std::uint8_t {
    value,     // write `node`
    items,     // the items of a list, from `at` on, appended in batches
    appended,  // the same for those of an object
    pairs,     // the pairs of a dict or object, set in batches; keys and values count separately
    tuple,     // the items of a tuple from `at` on
    emit,      // write the opcode `op`
    remember,  // `node` is complete or can take its parts, so it may be referred to
    finish_tensor,  // what follows a tensor's quantizer
  };
  struct Step {
    Do what = Do::value;
    Op op = Op::stop;
    NodeId node = kNoNode;
    std::uint64_t at = 0;
  };
  static constexpr std::size_t kKeyRoom = 16 << 20;  // and 16 for each node of the tree
  static constexpr std::uint32_t kUnseen = 0xFFFFFFFF;
  static constexpr std::uint32_t kOpen = 0xFFFFFFFE;

  // ---- the walk
  void count_visits();
  void count_children(Value value, std::vector<NodeId>& pending) const;
  void push(std::initializer_list<Step> steps);  // the first is done first
  [[nodiscard]] Result<void> step(Step step);
  [[nodiscard]] Result<void> batch(Step step, Value value);
  [[nodiscard]] Value child(const Step& step, Value value) const;
  [[nodiscard]] std::string place() const;
  template <typename... Parts>
  Error fail(ErrorCode code, const Parts&... parts) const;
  void remember(NodeId id);

  // ---- values
  [[nodiscard]] Result<void> value(Value value);
  [[nodiscard]] Result<bool> written_before(Value value);
  [[nodiscard]] Result<void> atom(Value value);
  [[nodiscard]] Result<void> container(Value value);
  [[nodiscard]] Result<void> string(Value value);
  [[nodiscard]] Result<void> bytes(Value value);
  void tuple(Value value);
  void tuple_from(Value items, std::uint64_t first);
  [[nodiscard]] Result<void> global(Value value);
  [[nodiscard]] Result<void> named(std::string_view module, std::string_view name);
  [[nodiscard]] Result<void> object(Value value);
  void push_object(Value value);

  // ---- tree_pickler_tensors.cpp
  [[nodiscard]] Result<void> tensor(Value value);
  [[nodiscard]] Result<void> tensor_head(std::uint32_t number, const TensorAttributes& attributes,
                                         const TorchForm& form);
  void finish_tensor(Value value);
  void finish_plain(const TorchForm& form, bool requires_grad);
  void tensor_arguments(std::uint32_t number, const TensorAttributes& attributes,
                        const TorchForm& form);
  [[nodiscard]] Result<void> check_quantizer(const TensorAttributes& attributes,
                                             const TorchForm& form) const;
  [[nodiscard]] Result<bool> subclass(Value value);
  [[nodiscard]] Result<bool> storage_value(Value value);
  void storage(std::uint32_t number, const TensorAttributes& attributes, std::uint8_t type);
  void counts(std::span<const std::uint64_t> counts);
  [[nodiscard]] std::uint32_t storage_key(std::uint32_t number, std::uint8_t type);
  [[nodiscard]] Result<TorchForm> form_of(std::uint32_t number,
                                          const TensorAttributes& attributes) const;
  [[nodiscard]] Result<void> array(Value value);
  [[nodiscard]] Result<void> array_as_tensor(Value value);
  [[nodiscard]] Result<void> array_as_is(Value value);
  [[nodiscard]] Result<void> scalar(Value value);
  [[nodiscard]] Result<void> scalar_as_python(Value value);
  [[nodiscard]] Result<void> numpy_dtype(std::string_view typestr);
  [[nodiscard]] Result<std::string> contents(std::uint32_t number) const;

  // ---- tree_pickler_convert.cpp
  [[nodiscard]] Error refused(std::string_view what) const;
  [[nodiscard]] Result<void> convert(Value value);
  [[nodiscard]] Result<void> convert_module(const TorchModule& module);
  // false: something else, or one with parts that its conversion would lose.
  [[nodiscard]] Result<bool> convert_set(Value value);
  [[nodiscard]] Result<bool> convert_namespace(Value value);
  [[nodiscard]] Result<bool> convert_path(Value value);
  [[nodiscard]] Result<bool> convert_deque(Value value);
  [[nodiscard]] Result<bool> convert_mapping(Value value);
  [[nodiscard]] static std::optional<std::string> path_text(Value value);
  [[nodiscard]] Result<void> leave_out(Value object, Value part, std::string_view what);
  [[nodiscard]] bool finds_tensors(Value value);
  void report(std::string_view from, std::string_view to);

  // ---- tree_pickler_keys.cpp
  [[nodiscard]] bool keeps() const { return options_.unsafe_objects == UnsafeObjects::keep; }
  [[nodiscard]] Result<void> check_keys(Value container);
  [[nodiscard]] Result<void> check_all_differ(std::span<const Value> keys, std::string_view called);
  [[nodiscard]] Result<void> take_key_room(std::size_t room);
  [[nodiscard]] Result<void> append_key(std::string& out, Value key, std::size_t depth) const;
  [[nodiscard]] Result<void> append_object_key(std::string& out, Value key,
                                               std::size_t depth) const;
  [[nodiscard]] Error unhashable(std::string_view what) const;
  [[nodiscard]] static std::string key_name(Value key);
  [[nodiscard]] static bool is_set(Value object);

  const ValueTree& tree_;
  ValueTree* editable_;
  std::span<const StoredTensor> tensors_;
  const PickleOptions& options_;
  PickleOutput out_;
  std::vector<Step> steps_;
  std::vector<std::uint8_t> visits_;   // for each node: 0, 1, or 2 for more
  std::vector<std::uint32_t> memo_;    // for each node: kUnseen, kOpen, or its number in the pickle
  std::size_t key_room_;               // what the check of keys may still take: keys, bytes of text
  std::vector<bool> without_tensors_;  // nodes that finds_tensors() has searched

  struct Storage {
    std::uint32_t tensor = 0;
    std::uint8_t type = kNoTorchDtype;  // of a typed storage; kNoTorchDtype while untyped
    std::uint32_t next = kUnseen;       // the next storage of the same tensor
  };
  std::vector<Storage> storages_;
  std::vector<std::uint32_t> first_storage_;  // for each tensor, into storages_; kUnseen: none

  struct Conversion {
    std::uint64_t times = 0;
    std::string first;
  };
  std::map<std::string, Conversion, std::less<>> conversions_;  // by "X became Y"
  std::vector<std::string> notes_;  // about objects that are not in a state dict
};

template <typename... Parts>
Error TreePickler::fail(ErrorCode code, const Parts&... parts) const {
  return with_context(place(), make_error(code, parts...));
}

// "collections.defaultdict", for a global.
[[nodiscard]] std::string full_name(Value global);

}  // namespace flatbed::pth
