// ValueTree: the nested Python structure around the tensors (optimizer state, epoch, scores), as
// data.
//
// One arena per tree holds all nodes; a Value is {tree, index}: it borrows the tree and is freely
// copied. Containers refer to nodes by number, so that sharing and cycles are kept: equal ids are
// the same Python object, and nothing here recurses. A tree may be a graph with cycles: bound
// whatever you expand.
//
//   ValueTree tree;                                        // {"epoch": 3, "weight": <tensor 0>}
//   const NodeId root = tree.add_dict();
//   tree.set_item(root, tree.add_string("epoch"), tree.add_integer(3));
//   tree.set_item(root, tree.add_string("weight"), tree.add_tensor(0, {}));
//   tree.set_root(root);
//
// Building is for one thread; a finished tree is read from any number of threads. Node numbers are
// 32 bits: a tree holds at most 2^32 - 2 nodes (whoever reads files has bounded that before).
#pragma once

#include <array>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "flatbed/export.hpp"
#include "flatbed/large_allocator.hpp"
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

// What a tensor node says beyond the tensor's own bytes (spec T5). Absent fields are the defaults.
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

class ValueTree;

class FLATBED_EXPORT Value {
 public:
  Value(const ValueTree* tree, NodeId id) : tree_(tree), id_(id) {}

  [[nodiscard]] inline Kind kind() const;
  [[nodiscard]] NodeId id() const noexcept { return id_; }  // equal ids: the same object

  // list, tuple: items; dict: pairs; object: its pairs; everything else: 0.
  [[nodiscard]] inline std::size_t size() const;
  [[nodiscard]] inline Value key(std::size_t index) const;  // dict, object
  [[nodiscard]] inline Value item(
      std::size_t index) const;  // list, tuple; dict, object: the value of pair `index`

  // The same by number, for loops over many: of list and tuple the items; of dict and object keys
  // and values, which alternate. Valid while the tree does not change.
  [[nodiscard]] inline std::span<const NodeId> children() const;

  // object only. F, A, I, S of the spec: callable(*arguments); then appended; then pairs; then
  // state (if any).
  [[nodiscard]] inline Value callable() const;
  [[nodiscard]] inline Value arguments() const;  // a tuple
  [[nodiscard]] inline std::size_t appended_size() const;
  [[nodiscard]] inline Value appended(std::size_t index) const;
  [[nodiscard]] inline std::optional<Value> state() const;
  // Whether this is an object that is a call and nothing more: no items, pairs or state.
  [[nodiscard]] inline bool is_bare_call() const;

  [[nodiscard]] std::optional<bool> as_bool() const;
  [[nodiscard]] inline std::optional<std::int64_t> as_int() const;  // integer only, not boolean
  [[nodiscard]] std::optional<double> as_real() const;              // real or integer
  [[nodiscard]] inline std::string_view text() const;  // see Kind; empty for the others
  [[nodiscard]] std::string_view qualname() const;     // global
  [[nodiscard]] std::string_view raw() const;          // scalar: the bytes of the value
  [[nodiscard]] inline std::optional<std::uint32_t> tensor()
      const;  // index into the tensors the tree belongs to
  // Of a tensor; of any other value the defaults.
  [[nodiscard]] inline const TensorAttributes& attributes() const;

  // Another node of the same tree, such as attributes().state.
  [[nodiscard]] Value node(NodeId id) const { return {tree_, id}; }

  // The value at a dotted path: dict keys (the longest key that matches first; ints and
  // True/False/None by their text), indices of lists and tuples, and for objects their pairs,
  // appended items or the dict of their state; of a torch module (torch_module.hpp) also its
  // parameters, buffers and children by name: "model.conv1.weight". "" is this value. Errors:
  // path_not_found, naming the part that is missing and what is there.
  [[nodiscard]] Result<Value> at(std::string_view path) const;

 private:
  [[nodiscard]] std::string_view other_text() const;

  const ValueTree* tree_;
  NodeId id_;
};

class FLATBED_EXPORT ValueTree {
 public:
  [[nodiscard]] Value root() const { return {this, root_}; }  // None until set_root
  void set_root(NodeId id) { root_ = id; }
  [[nodiscard]] std::size_t size() const noexcept { return nodes_.size(); }  // nodes
  [[nodiscard]] Value value(NodeId id) const { return {this, id}; }

  // Room for about this many nodes, so that building need not move what is there.
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
  void set_item(NodeId dict_or_object, NodeId key,
                NodeId value);  // adds a pair; equal keys are the caller's business
  void set_items(NodeId dict_or_object, std::span<const NodeId> keys_and_values);
  void set_state(NodeId object, NodeId state);
  void set_tuple(NodeId tuple,
                 std::span<const NodeId> items);  // fills a tuple added empty (for cycles)
  void set_tensor(NodeId tensor_or_array_or_bytes, std::uint32_t tensor);
  // Every node that holds tensor t now holds numbers[t].
  void renumber_tensors(std::span<const std::uint32_t> numbers);
  TensorAttributes& edit_attributes(NodeId tensor);  // valid until the next add
  // Makes an object or bytes node what another node is, which may not be used again. A pickle
  // refers to some tensors before it says what is in them.
  void become(NodeId object, NodeId other);

 private:
  friend class Value;

  // Where a growable run of child ids begins in children_, and in its upper 8 bits how much room it
  // has: 0 as much as it holds, else 2^n. A full run moves to the end with room for the next power
  // of two, so that memory stays within a small factor of what was added.
  using Place = std::uint64_t;
  struct Node {
    Kind kind = Kind::none;
    // boolean; length of text; tensor index; list, tuple, dict: children; object: index into more_
    std::uint32_t small = 0;
    // integer; bits of real; offset of text; index into attributes_; list, tuple, dict: a Place;
    // object: callable, and in the upper half arguments
    std::uint64_t large = 0;
  };
  // Texts of globals and scalars are string nodes before them, that of an array is node `large`.
  static constexpr std::uint64_t kInTensor =
      ~std::uint64_t{0};  // bytes: their contents are a tensor
  static constexpr std::uint64_t kNoAttributes =
      0;  // tensor: the defaults, which stand first in attributes_
  // tensor, beside the index: no other tensor has these attributes. Those that were added with the
  // same share a row.
  static constexpr std::uint64_t kOwnAttributes = std::uint64_t{1} << 63;
  // What an object has beside its call. Most have nothing: more_[0].
  struct More {
    NodeId state = kNoNode;
    std::uint32_t appended_size = 0, pairs_size = 0;
    Place appended = 0, pairs = 0;
  };

  FLATBED_HIDDEN NodeId add(Kind kind, std::uint32_t small, std::uint64_t large);
  FLATBED_HIDDEN NodeId add_text(Kind kind, std::string_view text);
  FLATBED_HIDDEN More& more_of(Node& object);  // its own, made where it had none
  FLATBED_HIDDEN void extend(std::uint32_t& size, Place& place, std::span<const NodeId> ids);
  [[nodiscard]] const NodeId* at(Place place) const {
    return children_.data() + (place & ~Place{0} >> 8);
  }
  [[nodiscard]] inline std::string_view text_at(NodeId id) const;
  [[nodiscard]] inline const More& more(NodeId object) const;

  NodeId root_ = kNoNode;
  LargeVector<Node> nodes_;
  LargeVector<NodeId> children_;
  LargeVector<More> more_ = LargeVector<More>(1);
  LargeVector<TensorAttributes> attributes_ = LargeVector<TensorAttributes>(1);
  std::array<std::uint32_t, 4> recent_attributes_{};  // rows that tensors may share
  LargeVector<char> texts_;
};

// Walking a tree is these calls and little else: hence inline.
inline const ValueTree::More& ValueTree::more(NodeId id) const {
  assert(nodes_[id].kind == Kind::object);
  return more_[nodes_[id].small];
}

inline Kind Value::kind() const { return id_ == kNoNode ? Kind::none : tree_->nodes_[id_].kind; }

inline std::span<const NodeId> Value::children() const {
  if (id_ == kNoNode) return {};
  const ValueTree::Node& node = tree_->nodes_[id_];
  if (node.kind >= Kind::list && node.kind <= Kind::dict)
    return {tree_->at(node.large), node.small};
  if (node.kind != Kind::object) return {};
  const ValueTree::More& more = tree_->more_[node.small];
  return {tree_->at(more.pairs), more.pairs_size};
}

inline std::size_t Value::size() const {
  const bool sequence = kind() == Kind::list || kind() == Kind::tuple;
  return sequence ? children().size() : children().size() / 2;
}

inline Value Value::key(std::size_t index) const {
  assert(kind() == Kind::dict || kind() == Kind::object);
  return {tree_, children()[index * 2]};
}

inline Value Value::item(std::size_t index) const {
  const bool sequence = kind() == Kind::list || kind() == Kind::tuple;
  return {tree_, children()[sequence ? index : index * 2 + 1]};
}

inline std::string_view ValueTree::text_at(NodeId id) const {
  return {texts_.data() + nodes_[id].large, nodes_[id].small};
}

inline Value Value::callable() const {
  assert(kind() == Kind::object);
  return {tree_, static_cast<NodeId>(tree_->nodes_[id_].large)};
}

inline Value Value::arguments() const {
  assert(kind() == Kind::object);
  return {tree_, static_cast<NodeId>(tree_->nodes_[id_].large >> 32)};
}

inline std::size_t Value::appended_size() const {
  return kind() == Kind::object ? tree_->more(id_).appended_size : 0;
}

inline Value Value::appended(std::size_t index) const {
  assert(index < appended_size());
  return {tree_, tree_->at(tree_->more(id_).appended)[index]};
}

inline std::optional<Value> Value::state() const {
  if (kind() != Kind::object) return std::nullopt;
  const NodeId state = tree_->more(id_).state;
  return state == kNoNode ? std::nullopt : std::optional(Value(tree_, state));
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
  const bool has_some = kind() == Kind::tensor;
  const std::uint64_t row = has_some ? tree_->nodes_[id_].large : ValueTree::kNoAttributes;
  return tree_->attributes_[row & ~ValueTree::kOwnAttributes];
}

inline std::string_view Value::text() const {
  return kind() == Kind::string ? tree_->text_at(id_) : other_text();
}

}  // namespace flatbed
