// ValueTree: the nested Python structure around the tensors (optimizer state, epoch, scores), as
// data.
//
// One arena per tree holds all nodes. A Value is {tree, index}: it borrows the tree and is freely
// copied. Containers refer to nodes by number, so that sharing and cycles are kept: equal ids are
// the same Python object, and nothing here recurses. A tree may be a graph with cycles, so bound
// any expansion of it.
//
//   ValueTree tree;                                        // {"epoch": 3, "weight": <tensor 0>}
//   const NodeId root = tree.add_dict();
//   tree.set_item(root, tree.add_string("epoch"), tree.add_integer(3));
//   tree.set_item(root, tree.add_string("weight"), tree.add_tensor(0, {}));
//   tree.set_root(root);
//
// A tree is built on one thread; a finished tree may be read from any number of threads. Node
// numbers have 32 bits: a tree holds at most 2^32 - 2 nodes (callers that read files must enforce
// this limit).
//
// Reading is checked in every build: what a value of its kind does not have is None, 0 or empty.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "flatbed/export.hpp"
#include "flatbed/result.hpp"

namespace flatbed {

using NodeId = std::uint32_t;
inline constexpr NodeId kNoNode = 0xFFFFFFFF;

enum class Kind : std::uint8_t {
  none,         // None
  boolean,      // True, False
  integer,      // an int that fits 64 bits
  big_integer,  // any other int: text() is hex, "-1f" style
  real,         // float
  string,       // str: text() is UTF-8, lone surrogates as 3 bytes (WTF-8)
  bytes,        // bytes: text(), or when tensor() is set the contents of that U8 tensor
  list,
  tuple,
  dict,    // pairs in order
  global,  // a class or function by name: text() is the module, qualname() the rest
  object,  // pickle's reduce form: a call, then items appended, pairs set, a state
  tensor,  // tensor() and attributes()
  array,   // numpy array: tensor() has its data, text() is dtype.str
  scalar,  // numpy scalar: text() is dtype.str, raw() its bytes
};

// A tensor node's facts beyond the tensor's own bytes (spec T5). Absent fields have the defaults.
struct TensorAttributes {
  bool requires_grad = false;
  bool parameter = false;  // nn.Parameter
  std::string device;      // where it was when saved; empty: cpu
  std::string dtype;       // torch's name where the stored dtype differs (spec T6)
  std::optional<std::vector<std::uint64_t>> stride;  // in elements, where not C order: a hint
  std::optional<std::vector<std::uint64_t>> shape;   // its own shape where the stored one differs
  NodeId quantizer = kNoNode;                        // the quantizer tuple
  NodeId state = kNoNode;                            // Python attributes
  bool operator==(const TensorAttributes&) const = default;
};

class Value;
class ValueTree;
template <typename Element>
class ValueRange;

// A pair of a dict or an object: for (const auto [key, item] : value.pairs()).
struct ValuePair;

class FLATBED_EXPORT Value {
 public:
  Value(const ValueTree* tree, NodeId id) : tree_(tree), id_(id) {}

  [[nodiscard]] inline Kind kind() const;
  [[nodiscard]] NodeId id() const noexcept { return id_; }  // equal ids: the same object

  // list, tuple: items; dict: pairs; object: its pairs; everything else: 0.
  [[nodiscard]] inline std::size_t size() const;
  // The key of pair `index` of a dict or an object; None where there is none.
  [[nodiscard]] inline Value key(std::size_t index) const;
  // Item `index` of a list or a tuple, the value of pair `index` of a dict or an object; None where
  // there is none.
  [[nodiscard]] inline Value item(std::size_t index) const;
  // The same as ranges, empty for other kinds. Valid while the tree does not change.
  [[nodiscard]] inline ValueRange<Value> items() const;
  [[nodiscard]] inline ValueRange<ValuePair> pairs() const;

  // The same by number, for loops over many: for list and tuple the items; for dict and object keys
  // and values, which alternate. Valid while the tree does not change.
  [[nodiscard]] inline std::span<const NodeId> children() const;

  // object only; None, 0 or nothing for other kinds. F, A, I, S of the spec: callable(*arguments);
  // then appended; then pairs; then state (if any).
  [[nodiscard]] inline Value callable() const;
  [[nodiscard]] inline Value arguments() const;  // a tuple
  [[nodiscard]] std::size_t appended_size() const;
  [[nodiscard]] Value appended(std::size_t index) const;
  [[nodiscard]] std::optional<Value> state() const;
  // Whether this is an object that is only a call, without items, pairs or state.
  [[nodiscard]] inline bool is_bare_call() const;

  [[nodiscard]] std::optional<bool> as_bool() const;
  [[nodiscard]] inline std::optional<std::int64_t> as_int() const;  // integer only, not boolean
  [[nodiscard]] std::optional<double> as_real() const;              // real or integer
  [[nodiscard]] inline std::string_view text() const;  // see Kind; empty for the others
  [[nodiscard]] std::string_view qualname() const;     // global
  [[nodiscard]] std::string_view raw() const;          // scalar: the bytes of the value
  // tensor, array, bytes: index into the tensors the tree belongs to.
  [[nodiscard]] inline std::optional<std::uint32_t> tensor() const;
  // Of a tensor; default ones for the rest.
  [[nodiscard]] inline const TensorAttributes& attributes() const;

  // Another node of the same tree, such as attributes().state.
  [[nodiscard]] Value node(NodeId id) const { return {tree_, id}; }

  // The value at a dotted path. A path names dict keys (the longest key that matches first; ints
  // and True/False/None by their text), indices of lists and tuples, and for objects their pairs,
  // appended items or the dict of their state; for a torch module (torch_module.hpp) also its
  // parameters, buffers and children by name: "model.conv1.weight". "" is this value. Errors:
  // path_not_found, which names the missing part and what exists instead.
  [[nodiscard]] Result<Value> at(std::string_view path) const;

 private:
  [[nodiscard]] bool has_pairs() const { return kind() == Kind::dict || kind() == Kind::object; }
  [[nodiscard]] std::span<const NodeId> object_pairs() const;
  [[nodiscard]] std::string_view other_text() const;

  const ValueTree* tree_;
  NodeId id_;
};

struct ValuePair {
  Value key;
  Value item;
};

// The items or the pairs of a value, for range-for and std::ranges. Borrows the tree.
template <typename Element>
class ValueRange {
 public:
  class Iterator {
   public:
    using value_type = Element;
    using difference_type = std::ptrdiff_t;

    Iterator() = default;
    Iterator(const ValueTree* tree, const NodeId* at, std::size_t step)
        : tree_(tree), at_(at), step_(step) {}

    [[nodiscard]] Element operator*() const;
    Iterator& operator++() { return at_ += step_, *this; }
    Iterator operator++(int) {
      const Iterator before = *this;
      return ++*this, before;
    }
    [[nodiscard]] bool operator==(const Iterator& other) const { return at_ == other.at_; }

   private:
    const ValueTree* tree_ = nullptr;
    const NodeId* at_ = nullptr;
    std::size_t step_ = 1;  // numbers per element: 2 where keys and values alternate
  };

  ValueRange(const ValueTree* tree, std::span<const NodeId> ids, std::size_t step)
      : tree_(tree), ids_(ids), step_(step) {}

  [[nodiscard]] Iterator begin() const { return {tree_, ids_.data(), step_}; }
  [[nodiscard]] Iterator end() const { return {tree_, ids_.data() + ids_.size(), step_}; }
  [[nodiscard]] std::size_t size() const noexcept { return ids_.size() / step_; }
  [[nodiscard]] bool empty() const noexcept { return ids_.empty(); }

 private:
  const ValueTree* tree_;
  std::span<const NodeId> ids_;
  std::size_t step_;
};

// Movable and copyable. A copy shares the nodes until one of the two is changed, which then copies
// them; copies may be used on different threads. After a move a tree may be assigned to or
// destroyed, nothing else. A NodeId is one that this tree or its copy gave, or kNoNode.
class FLATBED_EXPORT ValueTree {
 public:
  ValueTree();
  ValueTree(const ValueTree& other);
  ValueTree(ValueTree&& other) noexcept;
  ValueTree& operator=(const ValueTree& other);
  ValueTree& operator=(ValueTree&& other) noexcept;
  ~ValueTree();

  [[nodiscard]] Value root() const { return {this, root_}; }  // None until set_root
  void set_root(NodeId id) { root_ = id; }
  [[nodiscard]] std::size_t size() const noexcept;  // nodes
  [[nodiscard]] Value value(NodeId id) const { return {this, id}; }

  // Reserves room for about this many nodes, so that building does not move existing ones.
  void reserve(std::size_t nodes);

  NodeId add_none();
  NodeId add_boolean(bool value);
  NodeId add_integer(std::int64_t value);
  NodeId add_big_integer(std::string_view hex);
  NodeId add_real(double value);
  NodeId add_string(std::string_view wtf8);
  NodeId add_bytes(std::string_view bytes);
  NodeId add_bytes_in_tensor(std::uint32_t tensor);
  NodeId add_list();
  NodeId add_tuple(std::span<const NodeId> items);
  NodeId add_dict();
  NodeId add_global(std::string_view module, std::string_view qualname);
  NodeId add_object(NodeId callable, NodeId arguments);  // arguments: a tuple node
  NodeId add_tensor(std::uint32_t tensor, const TensorAttributes& attributes);
  NodeId add_array(std::uint32_t tensor, std::string_view typestr);
  NodeId add_scalar(std::string_view typestr, std::string_view bytes);

  void append(NodeId list_or_object, NodeId item);
  void append_all(NodeId list_or_object, std::span<const NodeId> items);
  // Adds pairs, keys and values in turn (a key without a value is left out); equal keys are the
  // caller's business.
  void set_item(NodeId dict_or_object, NodeId key, NodeId value);
  void set_items(NodeId dict_or_object, std::span<const NodeId> keys_and_values);
  void set_state(NodeId object, NodeId state);
  void set_tuple(NodeId tuple, std::span<const NodeId> items);  // one added empty (for cycles)
  void set_tensor(NodeId tensor_or_array_or_bytes, std::uint32_t tensor);
  // Renumbers tensors: every node that holds tensor t holds numbers[t] afterwards.
  void renumber_tensors(std::span<const std::uint32_t> numbers);
  // Valid until the tree is next changed or copied.
  TensorAttributes& edit_attributes(NodeId tensor);
  // Gives an object or bytes node the contents of another node, which must not be used again. A
  // pickle refers to some tensors before it states their contents.
  void become(NodeId object, NodeId other);

 private:
  friend class Value;

  // Opening a large checkpoint walks its tree several times, with these calls and little else: what
  // they need is here, so that they are inline. All else is behind arena_.
  struct Node {
    Kind kind = Kind::none;
    // boolean; length of text; tensor index; list, tuple, dict: number of children; object: what it
    // has beside its call, 0 for nothing
    std::uint32_t small = 0;
    // integer; bits of real; offset of text; list, tuple, dict: place of the children; tensor: row
    // of attributes; object: callable, and in the upper half arguments
    std::uint64_t large = 0;
  };
  static constexpr std::uint64_t kPlaceMask = ~std::uint64_t{0} >> 8;  // of a place in children_
  static constexpr std::uint64_t kRowMask = ~std::uint64_t{0} >> 1;    // of a row of attributes_
  static constexpr std::uint64_t kInTensor = ~std::uint64_t{0};  // bytes: the contents of a tensor
  struct Arena;

  FLATBED_HIDDEN NodeId add(Kind kind, std::uint32_t small, std::uint64_t large);
  FLATBED_HIDDEN NodeId add_text(Kind kind, std::string_view text);
  FLATBED_HIDDEN void extend(std::uint32_t& size, std::uint64_t& place,
                             std::span<const NodeId> ids);
  FLATBED_HIDDEN void update_pointers() noexcept;  // after the arena has grown

  NodeId root_ = kNoNode;
  // Into the arena.
  const Node* nodes_ = nullptr;
  const NodeId* children_ = nullptr;
  const char* texts_ = nullptr;
  const TensorAttributes* attributes_ = nullptr;  // the defaults, then those of tensors
  std::unique_ptr<Arena> arena_;
};

inline Kind Value::kind() const { return id_ == kNoNode ? Kind::none : tree_->nodes_[id_].kind; }

inline std::span<const NodeId> Value::children() const {
  if (id_ == kNoNode) return {};
  const ValueTree::Node& node = tree_->nodes_[id_];
  if (node.kind >= Kind::list && node.kind <= Kind::dict)
    return {tree_->children_ + (node.large & ValueTree::kPlaceMask), node.small};
  if (node.kind != Kind::object || node.small == 0) return {};
  return object_pairs();
}

inline std::size_t Value::size() const {
  return has_pairs() ? children().size() / 2 : children().size();
}

inline Value Value::key(std::size_t index) const {
  const std::span<const NodeId> ids = children();
  const bool there = index < ids.size() / 2 && tree_->nodes_[id_].kind >= Kind::dict;
  return {tree_, there ? ids[index * 2] : kNoNode};
}

inline Value Value::item(std::size_t index) const {
  const std::span<const NodeId> ids = children();
  if (index >= ids.size()) return {tree_, kNoNode};
  // What has children is a list, a tuple, or something with pairs.
  if (tree_->nodes_[id_].kind < Kind::dict) return {tree_, ids[index]};
  return {tree_, index < ids.size() / 2 ? ids[index * 2 + 1] : kNoNode};
}

template <>
inline Value ValueRange<Value>::Iterator::operator*() const {
  return {tree_, at_[step_ - 1]};
}

template <>
inline ValuePair ValueRange<ValuePair>::Iterator::operator*() const {
  return {{tree_, at_[0]}, {tree_, at_[1]}};
}

inline ValueRange<Value> Value::items() const {
  return {tree_, children(), has_pairs() ? std::size_t{2} : std::size_t{1}};
}

inline ValueRange<ValuePair> Value::pairs() const {
  return {tree_, has_pairs() ? children() : std::span<const NodeId>(), 2};
}

inline Value Value::callable() const {
  if (kind() != Kind::object) return {tree_, kNoNode};
  return {tree_, static_cast<NodeId>(tree_->nodes_[id_].large)};
}

inline Value Value::arguments() const {
  if (kind() != Kind::object) return {tree_, kNoNode};
  return {tree_, static_cast<NodeId>(tree_->nodes_[id_].large >> 32)};
}

inline bool Value::is_bare_call() const {
  return kind() == Kind::object && tree_->nodes_[id_].small == 0;
}

inline std::optional<std::int64_t> Value::as_int() const {
  if (kind() != Kind::integer) return std::nullopt;
  return static_cast<std::int64_t>(tree_->nodes_[id_].large);
}

inline std::optional<std::uint32_t> Value::tensor() const {
  const Kind k = kind();
  if (k != Kind::tensor && k != Kind::array && k != Kind::bytes) return std::nullopt;
  const ValueTree::Node& node = tree_->nodes_[id_];
  if (k == Kind::bytes && node.large != ValueTree::kInTensor) return std::nullopt;
  return node.small;
}

inline const TensorAttributes& Value::attributes() const {
  const std::uint64_t row = kind() == Kind::tensor ? tree_->nodes_[id_].large : 0;
  return tree_->attributes_[row & ValueTree::kRowMask];
}

inline std::string_view Value::text() const {
  if (kind() != Kind::string) return other_text();
  const ValueTree::Node& node = tree_->nodes_[id_];
  return {tree_->texts_ + node.large, node.small};
}

}  // namespace flatbed
