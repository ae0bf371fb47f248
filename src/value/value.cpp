// The arena of ValueTree: nodes, texts and children, each kind in one vector.
#include "flatbed/value.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cassert>
#include <utility>

#include "io/large_allocator.hpp"

namespace flatbed {

namespace {

// Where a growable run of child ids begins in Arena::children, and in its upper 8 bits how much
// room it has: 0 as much as it holds, else 2^n. A full run moves to the end with room for the next
// power of two, so that memory stays within a small factor of what was added.
using Place = std::uint64_t;

// What an object has beside its call. Most have nothing: the first row.
struct More {
  NodeId state = kNoNode;
  std::uint32_t appended_size = 0, pairs_size = 0;
  Place appended = 0, pairs = 0;
};

// tensor: the defaults, which stand first among the attributes.
constexpr std::uint64_t kNoAttributes = 0;
// tensor, beside the row: no other tensor has these attributes. Those that were added with the same
// share a row.
constexpr std::uint64_t kOwnAttributes = std::uint64_t{1} << 63;

}  // namespace

// What a tree holds. Copies of a tree share it until one of them is changed.
//
// Texts of globals and scalars are string nodes before them, that of an array is node `large`.
struct ValueTree::Arena {
  struct Store {
    NodeId add(Kind kind, std::uint32_t small, std::uint64_t large) {
      nodes.push_back({kind, small, large});
      return static_cast<NodeId>(nodes.size() - 1);
    }
    More& more_of(Node& object);  // its own, made where it had none
    void extend(std::uint32_t& size, Place& place, std::span<const NodeId> ids);
    [[nodiscard]] std::span<const NodeId> run(Place place, std::uint32_t size) const {
      return {children.data() + (place & kPlaceMask), size};
    }
    [[nodiscard]] std::string_view text(NodeId id) const {
      return {texts.data() + nodes[id].large, nodes[id].small};
    }
    // Of an object; nothing for other kinds.
    [[nodiscard]] const More& more_at(NodeId id) const {
      return more[id != kNoNode && nodes[id].kind == Kind::object ? nodes[id].small : 0];
    }

    LargeVector<Node> nodes;
    LargeVector<NodeId> children;
    LargeVector<More> more = LargeVector<More>(1);
    LargeVector<TensorAttributes> attributes = LargeVector<TensorAttributes>(1);
    std::array<std::uint32_t, 4> recent_attributes{};  // rows that tensors may share
    LargeVector<char> texts;
  };

  Arena() = default;
  // Shares the store of `other`, which is never changed from then on.
  explicit Arena(Arena& other) : store(other.store), shared(true) {
    other.shared.store(true, std::memory_order_relaxed);
  }

  // The store of `tree`, which is about to change: a new one if it was ever shared, also if the
  // other copies are gone by now. A shared store is only read, so that threads that use copies of
  // one tree need no order among each other.
  Store& own(ValueTree& tree) {
    if (shared.load(std::memory_order_relaxed)) {
      store = std::make_shared<Store>(*store);
      shared.store(false, std::memory_order_relaxed);
      tree.update_pointers();
    }
    return *store;
  }
  [[nodiscard]] const Store& get() const { return *store; }

  std::shared_ptr<Store> store = std::make_shared<Store>();
  std::atomic<bool> shared{false};  // several threads may copy one tree
};

ValueTree::ValueTree() : arena_(std::make_unique<Arena>()) { update_pointers(); }

ValueTree::ValueTree(const ValueTree& other)
    : root_(other.root_), arena_(std::make_unique<Arena>(*other.arena_)) {
  update_pointers();
}

ValueTree::ValueTree(ValueTree&& other) noexcept
    : root_(std::exchange(other.root_, kNoNode)),
      nodes_(other.nodes_),
      children_(other.children_),
      texts_(other.texts_),
      attributes_(other.attributes_),
      arena_(std::move(other.arena_)) {}

ValueTree& ValueTree::operator=(const ValueTree& other) { return *this = ValueTree(other); }

ValueTree& ValueTree::operator=(ValueTree&& other) noexcept {
  root_ = std::exchange(other.root_, kNoNode);
  arena_ = std::move(other.arena_);
  if (arena_) update_pointers();
  return *this;
}

ValueTree::~ValueTree() = default;

void ValueTree::update_pointers() noexcept {
  const Arena::Store& store = arena_->get();
  nodes_ = store.nodes.data();
  children_ = store.children.data();
  texts_ = store.texts.data();
  attributes_ = store.attributes.data();
}

std::size_t ValueTree::size() const noexcept { return arena_->get().nodes.size(); }

std::span<const NodeId> Value::object_pairs() const {
  const More& more = tree_->arena_->get().more_at(id_);
  return tree_->arena_->get().run(more.pairs, more.pairs_size);
}

std::size_t Value::appended_size() const { return tree_->arena_->get().more_at(id_).appended_size; }

Value Value::appended(std::size_t index) const {
  const More& more = tree_->arena_->get().more_at(id_);
  if (index >= more.appended_size) return {tree_, kNoNode};
  return {tree_, tree_->arena_->get().run(more.appended, more.appended_size)[index]};
}

std::optional<Value> Value::state() const {
  const NodeId state = tree_->arena_->get().more_at(id_).state;
  return state == kNoNode ? std::nullopt : std::optional(Value(tree_, state));
}

std::optional<bool> Value::as_bool() const {
  if (kind() != Kind::boolean) return std::nullopt;
  return tree_->nodes_[id_].small != 0;
}

std::optional<double> Value::as_real() const {
  if (const std::optional<std::int64_t> integer = as_int()) return static_cast<double>(*integer);
  if (kind() != Kind::real) return std::nullopt;
  return std::bit_cast<double>(tree_->nodes_[id_].large);
}

std::string_view Value::other_text() const {
  switch (kind()) {
    case Kind::big_integer:
      return tree_->arena_->get().text(id_);
    case Kind::bytes:
      return tensor() ? std::string_view() : tree_->arena_->get().text(id_);
    case Kind::global:
    case Kind::scalar:
      return tree_->arena_->get().text(id_ - 2);
    case Kind::array:
      return tree_->arena_->get().text(static_cast<NodeId>(tree_->nodes_[id_].large));
    default:
      return {};
  }
}

std::string_view Value::qualname() const {
  return kind() == Kind::global ? tree_->arena_->get().text(id_ - 1) : std::string_view();
}

std::string_view Value::raw() const {
  return kind() == Kind::scalar ? tree_->arena_->get().text(id_ - 1) : std::string_view();
}

NodeId ValueTree::add(Kind kind, std::uint32_t small, std::uint64_t large) {
  Arena::Store& store = arena_->own(*this);
  const NodeId id = store.add(kind, small, large);
  nodes_ = store.nodes.data();
  return id;
}

NodeId ValueTree::add_text(Kind kind, std::string_view text) {
  assert(text.size() < 0xFFFFFFFF);
  Arena::Store& store = arena_->own(*this);
  const std::size_t offset = store.texts.size();
  store.texts.insert(store.texts.end(), text.begin(), text.end());
  texts_ = store.texts.data();
  return add(kind, static_cast<std::uint32_t>(text.size()), offset);
}

NodeId ValueTree::add_none() { return add(Kind::none, 0, 0); }
NodeId ValueTree::add_boolean(bool value) { return add(Kind::boolean, value ? 1 : 0, 0); }
NodeId ValueTree::add_integer(std::int64_t value) {
  return add(Kind::integer, 0, static_cast<std::uint64_t>(value));
}
NodeId ValueTree::add_big_integer(std::string_view hex) { return add_text(Kind::big_integer, hex); }
NodeId ValueTree::add_real(double value) {
  return add(Kind::real, 0, std::bit_cast<std::uint64_t>(value));
}
NodeId ValueTree::add_string(std::string_view wtf8) { return add_text(Kind::string, wtf8); }
NodeId ValueTree::add_bytes(std::string_view bytes) { return add_text(Kind::bytes, bytes); }
NodeId ValueTree::add_bytes_in_tensor(std::uint32_t tensor) {
  return add(Kind::bytes, tensor, kInTensor);
}
NodeId ValueTree::add_list() { return add(Kind::list, 0, 0); }

NodeId ValueTree::add_tuple(std::span<const NodeId> items) {
  const NodeId tuple = add(Kind::tuple, 0, 0);
  set_tuple(tuple, items);
  return tuple;
}

NodeId ValueTree::add_dict() { return add(Kind::dict, 0, 0); }

NodeId ValueTree::add_global(std::string_view module, std::string_view qualname) {
  add_text(Kind::string, module);
  add_text(Kind::string, qualname);
  return add(Kind::global, 0, 0);
}

NodeId ValueTree::add_object(NodeId callable, NodeId arguments) {
  return add(Kind::object, 0, callable | std::uint64_t{arguments} << 32);
}

NodeId ValueTree::add_tensor(std::uint32_t tensor, const TensorAttributes& attributes) {
  // Most tensors have the default attributes or those of a recent tensor.
  if (attributes == attributes_[kNoAttributes]) return add(Kind::tensor, tensor, kNoAttributes);
  const std::shared_ptr<Arena::Store> before = arena_->store;  // which may hold `attributes`
  Arena::Store& store = arena_->own(*this);
  auto& recent = store.recent_attributes;
  for (const std::uint32_t row : recent) {
    if (attributes_[row] == attributes) return add(Kind::tensor, tensor, row);
  }
  const std::size_t row = store.attributes.size();
  recent[row % recent.size()] = static_cast<std::uint32_t>(row);
  store.attributes.push_back(attributes);
  attributes_ = store.attributes.data();
  return add(Kind::tensor, tensor, row);
}

NodeId ValueTree::add_array(std::uint32_t tensor, std::string_view typestr) {
  const NodeId text = add_text(Kind::string, typestr);
  return add(Kind::array, tensor, text);
}

NodeId ValueTree::add_scalar(std::string_view typestr, std::string_view bytes) {
  add_text(Kind::string, typestr);
  add_text(Kind::bytes, bytes);
  return add(Kind::scalar, 0, 0);
}

void ValueTree::append(NodeId list_or_object, NodeId item) {
  append_all(list_or_object, {&item, 1});
}

void ValueTree::append_all(NodeId list_or_object, std::span<const NodeId> items) {
  Arena::Store& store = arena_->own(*this);
  Node& node = store.nodes[list_or_object];
  assert(node.kind == Kind::list || node.kind == Kind::object);
  if (items.empty()) return;
  if (node.kind == Kind::list) return extend(node.small, node.large, items);
  More& more = store.more_of(node);
  extend(more.appended_size, more.appended, items);
}

void ValueTree::set_item(NodeId dict_or_object, NodeId key, NodeId value) {
  const NodeId pair[] = {key, value};
  set_items(dict_or_object, pair);
}

void ValueTree::set_items(NodeId dict_or_object, std::span<const NodeId> keys_and_values) {
  Arena::Store& store = arena_->own(*this);
  Node& node = store.nodes[dict_or_object];
  assert(node.kind == Kind::dict || node.kind == Kind::object);
  keys_and_values = keys_and_values.first(keys_and_values.size() / 2 * 2);
  if (keys_and_values.empty()) return;
  if (node.kind == Kind::dict) return extend(node.small, node.large, keys_and_values);
  More& more = store.more_of(node);
  extend(more.pairs_size, more.pairs, keys_and_values);
}

void ValueTree::set_state(NodeId object, NodeId state) {
  assert(nodes_[object].kind == Kind::object);
  Arena::Store& store = arena_->own(*this);
  store.more_of(store.nodes[object]).state = state;
}

More& ValueTree::Arena::Store::more_of(Node& object) {
  if (object.small == 0) {
    object.small = static_cast<std::uint32_t>(more.size());
    more.emplace_back();
  }
  return more[object.small];
}

void ValueTree::set_tuple(NodeId tuple, std::span<const NodeId> items) {
  Node& node = arena_->own(*this).nodes[tuple];
  assert(node.kind == Kind::tuple && node.small == 0);
  extend(node.small, node.large, items);
}

void ValueTree::set_tensor(NodeId tensor_or_array_or_bytes, std::uint32_t tensor) {
  arena_->own(*this).nodes[tensor_or_array_or_bytes].small = tensor;
}

void ValueTree::reserve(std::size_t nodes) {
  // Typical proportions of a state dict's pickle.
  Arena::Store& store = arena_->own(*this);
  store.nodes.reserve(nodes);
  store.children.reserve(nodes * 2);
  update_pointers();
}

void ValueTree::renumber_tensors(std::span<const std::uint32_t> numbers) {
  for (Node& node : arena_->own(*this).nodes) {
    const bool in_tensor = node.kind == Kind::bytes && node.large == kInTensor;
    const bool refers = node.kind == Kind::tensor || node.kind == Kind::array || in_tensor;
    // Nodes that the root does not reach may hold any number.
    if (refers && node.small < numbers.size()) node.small = numbers[node.small];
  }
}

void ValueTree::become(NodeId object_or_bytes, NodeId other) {
  assert(nodes_[object_or_bytes].kind == Kind::object ||
         nodes_[object_or_bytes].kind == Kind::bytes);
  assert(nodes_[other].kind != Kind::global && nodes_[other].kind != Kind::scalar);
  Arena::Store& store = arena_->own(*this);
  store.nodes[object_or_bytes] = store.nodes[other];
}

TensorAttributes& ValueTree::edit_attributes(NodeId tensor) {
  Arena::Store& store = arena_->own(*this);
  Node& node = store.nodes[tensor];
  assert(node.kind == Kind::tensor);
  if ((node.large & kOwnAttributes) == 0) {
    store.attributes.push_back(TensorAttributes(attributes_[node.large]));
    attributes_ = store.attributes.data();
    node.large = (store.attributes.size() - 1) | kOwnAttributes;
  }
  return store.attributes[node.large & kRowMask];
}

void ValueTree::extend(std::uint32_t& size, std::uint64_t& place, std::span<const NodeId> ids) {
  Arena::Store& store = *arena_->store;  // the caller's, who owns it
  store.extend(size, place, ids);
  children_ = store.children.data();
}

void ValueTree::Arena::Store::extend(std::uint32_t& size, Place& place,
                                     std::span<const NodeId> ids) {
  if (ids.empty()) return;
  std::size_t begin = place & kPlaceMask;
  const std::size_t exponent = place >> 56;
  const std::size_t capacity = exponent == 0 ? size : std::size_t{1} << exponent;
  const std::size_t wanted = size + ids.size();
  if (size == 0) begin = children.size();
  if (wanted > capacity) {
    // The first fill is exact, because most containers are filled once. A run at the end grows in
    // place.
    const std::size_t room = size == 0 ? wanted : std::bit_ceil(wanted);
    const bool last = begin + capacity == children.size();
    const std::size_t from = begin;
    if (!last) begin = children.size();
    children.resize(begin + room);
    if (!last) std::copy_n(children.data() + from, size, children.data() + begin);
    place = begin | (size == 0 ? 0 : Place(std::countr_zero(room)) << 56);
  }
  std::copy(ids.begin(), ids.end(), children.data() + begin + size);
  size = static_cast<std::uint32_t>(wanted);
}

}  // namespace flatbed
