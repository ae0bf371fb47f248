// The arena of ValueTree: nodes, texts and children, each kind in one vector.
#include "flatbed/value.hpp"

#include <algorithm>
#include <bit>
#include <cassert>

namespace flatbed {

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
      return tree_->text_at(id_);
    case Kind::bytes:
      return tensor() ? std::string_view() : tree_->text_at(id_);
    case Kind::global:
    case Kind::scalar:
      return tree_->text_at(id_ - 2);
    case Kind::array:
      return tree_->text_at(static_cast<NodeId>(tree_->nodes_[id_].large));
    default:
      return {};
  }
}

std::string_view Value::qualname() const {
  return kind() == Kind::global ? tree_->text_at(id_ - 1) : std::string_view();
}

std::string_view Value::raw() const {
  return kind() == Kind::scalar ? tree_->text_at(id_ - 1) : std::string_view();
}

NodeId ValueTree::add(Kind kind, std::uint32_t small, std::uint64_t large) {
  nodes_.push_back({kind, small, large});
  return static_cast<NodeId>(nodes_.size() - 1);
}

NodeId ValueTree::add_text(Kind kind, std::string_view text) {
  assert(text.size() < 0xFFFFFFFF);
  const std::size_t offset = texts_.size();
  texts_.insert(texts_.end(), text.begin(), text.end());
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
  extend(nodes_[tuple].small, nodes_[tuple].large, items);
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
  for (const std::uint32_t row : recent_attributes_) {
    if (attributes_[row] == attributes) return add(Kind::tensor, tensor, row);
  }
  const std::size_t row = attributes_.size();
  recent_attributes_[row % recent_attributes_.size()] = static_cast<std::uint32_t>(row);
  attributes_.push_back(attributes);
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
  Node& node = nodes_[list_or_object];
  assert(node.kind == Kind::list || node.kind == Kind::object);
  if (items.empty()) return;
  if (node.kind == Kind::list) return extend(node.small, node.large, items);
  More& more = more_of(node);
  extend(more.appended_size, more.appended, items);
}

void ValueTree::set_item(NodeId dict_or_object, NodeId key, NodeId value) {
  const NodeId pair[] = {key, value};
  set_items(dict_or_object, pair);
}

void ValueTree::set_items(NodeId dict_or_object, std::span<const NodeId> keys_and_values) {
  Node& node = nodes_[dict_or_object];
  assert(node.kind == Kind::dict || node.kind == Kind::object);
  if (keys_and_values.empty()) return;
  if (node.kind == Kind::dict) return extend(node.small, node.large, keys_and_values);
  More& more = more_of(node);
  extend(more.pairs_size, more.pairs, keys_and_values);
}

void ValueTree::set_state(NodeId object, NodeId state) {
  assert(nodes_[object].kind == Kind::object);
  more_of(nodes_[object]).state = state;
}

ValueTree::More& ValueTree::more_of(Node& object) {
  if (object.small == 0) {
    object.small = static_cast<std::uint32_t>(more_.size());
    more_.emplace_back();
  }
  return more_[object.small];
}

void ValueTree::set_tuple(NodeId tuple, std::span<const NodeId> items) {
  Node& node = nodes_[tuple];
  assert(node.kind == Kind::tuple && node.small == 0);
  extend(node.small, node.large, items);
}

void ValueTree::set_tensor(NodeId tensor_or_array_or_bytes, std::uint32_t tensor) {
  nodes_[tensor_or_array_or_bytes].small = tensor;
}

void ValueTree::reserve(std::size_t nodes) {
  // Typical proportions of a state dict's pickle.
  nodes_.reserve(nodes);
  children_.reserve(nodes * 2);
}

void ValueTree::renumber_tensors(std::span<const std::uint32_t> numbers) {
  for (Node& node : nodes_) {
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
  nodes_[object_or_bytes] = nodes_[other];
}

TensorAttributes& ValueTree::edit_attributes(NodeId tensor) {
  Node& node = nodes_[tensor];
  assert(node.kind == Kind::tensor);
  if ((node.large & kOwnAttributes) == 0) {
    attributes_.push_back(TensorAttributes(attributes_[node.large]));
    node.large = (attributes_.size() - 1) | kOwnAttributes;
  }
  return attributes_[node.large & ~kOwnAttributes];
}

void ValueTree::extend(std::uint32_t& size, Place& place, std::span<const NodeId> ids) {
  if (ids.empty()) return;
  std::size_t begin = place & ~Place{0} >> 8;
  const std::size_t exponent = place >> 56;
  const std::size_t capacity = exponent == 0 ? size : std::size_t{1} << exponent;
  const std::size_t wanted = size + ids.size();
  if (size == 0) begin = children_.size();
  if (wanted > capacity) {
    // The first fill is exact, because most containers are filled once. A run at the end grows in
    // place.
    const std::size_t room = size == 0 ? wanted : std::bit_ceil(wanted);
    const bool last = begin + capacity == children_.size();
    const std::size_t from = begin;
    if (!last) begin = children_.size();
    children_.resize(begin + room);
    if (!last) std::copy_n(children_.data() + from, size, children_.data() + begin);
    place = begin | (size == 0 ? 0 : Place(std::countr_zero(room)) << 56);
  }
  std::copy(ids.begin(), ids.end(), children_.data() + begin + size);
  size = static_cast<std::uint32_t>(wanted);
}

}  // namespace flatbed
