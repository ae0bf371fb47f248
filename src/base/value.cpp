// The arena behind ValueTree: nodes in one vector, texts in one string, children in one vector of
// runs.
#include "flatbed/value.hpp"

#include <algorithm>
#include <bit>
#include <cassert>
#include <charconv>

#include "base/str_cat.hpp"
#include "flatbed/torch_module.hpp"

namespace flatbed {

namespace {

// The text by which a path names this key, where it has one.
std::optional<std::string> key_text(Value key) {
  switch (key.kind()) {
    case Kind::string:
      return std::string(key.text());
    case Kind::integer:
      return str_cat(*key.as_int());
    case Kind::boolean:
      return *key.as_bool() ? "True" : "False";
    case Kind::none:
      return "None";
    default:
      return std::nullopt;
  }
}

constexpr std::size_t kComparedRows = 4;  // of attributes

struct Step {
  Value value;
  std::size_t consumed;  // bytes of the path, with the dot that follows
};

// Whether `key` is the whole path or its beginning up to a dot.
bool is_step(std::string_view path, std::string_view key) {
  return path.starts_with(key) && (path.size() == key.size() || path[key.size()] == '.');
}

std::optional<Step> step_by_key(Value from, std::string_view path) {
  std::optional<Step> best;
  for (std::size_t i = 0; i < from.size(); ++i) {
    const std::optional<std::string> key = key_text(from.key(i));
    if (!key || !is_step(path, *key)) continue;
    if (!best || key->size() + 1 > best->consumed) best = Step{from.item(i), key->size() + 1};
  }
  return best;
}

std::optional<std::size_t> leading_index(std::string_view path) {
  std::size_t index = 0;
  const auto [end, error] = std::from_chars(path.data(), path.data() + path.size(), index);
  if (error != std::errc{}) return std::nullopt;
  const bool whole = end == path.data() + path.size() || *end == '.';
  return whole ? std::optional(index) : std::nullopt;
}

std::size_t index_length(std::string_view path) { return std::min(path.find('.'), path.size()); }

std::optional<Step> step_by_index(Value from, std::string_view path) {
  const std::optional<std::size_t> index = leading_index(path);
  const bool object = from.kind() == Kind::object;
  const std::size_t count = object ? from.appended_size() : from.size();
  if (!index || *index >= count) return std::nullopt;
  return Step{object ? from.appended(*index) : from.item(*index), index_length(path) + 1};
}

// What a module has by this name: a parameter, buffer or child, or an attribute.
std::optional<Step> step_into(const TorchModule& module, std::string_view path) {
  std::optional<Step> best;
  if (module.wrapped() && is_step(path, kWrappedModule))
    return Step{*module.wrapped(), kWrappedModule.size() + 1};
  for (const Value names :
       {module.parameters(), module.buffers(), module.children(), module.attributes()}) {
    const std::optional<Step> found = step_by_key(names, path);
    if (found && (!best || found->consumed > best->consumed)) best = found;
  }
  return best;
}

std::optional<Step> step(Value from, std::string_view path) {
  switch (from.kind()) {
    case Kind::dict:
      return step_by_key(from, path);
    case Kind::list:
    case Kind::tuple:
      return step_by_index(from, path);
    case Kind::object: {
      if (const std::optional<TorchModule> module = TorchModule::of(from)) {
        if (auto found = step_into(*module, path)) return found;
      }
      if (auto found = step_by_key(from, path)) return found;
      if (auto found = step_by_index(from, path)) return found;
      const std::optional<Value> state = from.state();
      return state && state->kind() == Kind::dict ? step_by_key(*state, path) : std::nullopt;
    }
    default:
      return std::nullopt;
  }
}

// What is there instead, for the error message: the first few keys or the number of items.
std::string contents(Value value) {
  if (value.kind() == Kind::list || value.kind() == Kind::tuple)
    return str_cat(value.size(), " items");
  const std::optional<TorchModule> module = TorchModule::of(value);
  if (module && module->wrapped()) return str_cat("keys ", quoted(kWrappedModule));
  if (module) value = module->children().size() != 0 ? module->children() : module->parameters();
  std::string keys;
  for (std::size_t i = 0; i < value.size() && i < 8; ++i) {
    const std::optional<std::string> key = key_text(value.key(i));
    keys += str_cat(i == 0 ? "" : ", ", key ? quoted(*key) : "...");
  }
  if (value.size() > 8) keys += ", ...";
  return keys.empty() ? "nothing below it" : str_cat("keys ", keys);
}

}  // namespace

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

Result<Value> Value::at(std::string_view path) const {
  Value here = *this;
  std::string_view rest = path;
  while (!rest.empty()) {
    const std::optional<Step> next = step(here, rest);
    if (!next) {
      const std::string_view done = path.substr(0, path.size() - rest.size());
      return make_error(
          ErrorCode::path_not_found, "nothing at ", quoted(rest.substr(0, index_length(rest))),
          done.empty() ? " of the root" : str_cat(" of ", quoted(done.substr(0, done.size() - 1))),
          ", which has ", contents(here));
    }
    here = next->value;
    if (next->consumed > rest.size()) return here;
    rest.remove_prefix(next->consumed);
    // "a." asks for the empty key below "a".
    if (rest.empty()) {
      const std::optional<Step> empty_key = step(here, rest);
      if (!empty_key)
        return make_error(ErrorCode::path_not_found, "nothing after the last dot of ",
                          quoted(path));
      return empty_key->value;
    }
  }
  return here;
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
  // Most have the defaults, or what the last few have: so looking at those is enough.
  if (attributes == attributes_[kNoAttributes]) return add(Kind::tensor, tensor, kNoAttributes);
  const std::size_t count = attributes_.size();
  for (std::size_t i = 1; i <= std::min(count, kComparedRows); ++i) {
    if (attributes_[count - i] == attributes) return add(Kind::tensor, tensor, count - i);
  }
  attributes_.push_back(attributes);
  return add(Kind::tensor, tensor, count);
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
  // The proportions of a state dict's pickle.
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
    // The first fill is exact: most containers are filled once. A run at the end grows in place.
    const std::size_t room = size == 0 ? wanted : std::bit_ceil(wanted);
    const bool last = begin + capacity == children_.size();
    const std::size_t from = begin;
    if (!last) begin = children_.size();
    children_.resize(begin + room);
    if (!last) std::copy_n(children_.begin() + from, size, children_.begin() + begin);
    place = begin | (size == 0 ? 0 : Place(std::countr_zero(room)) << 56);
  }
  std::copy(ids.begin(), ids.end(), children_.begin() + begin + size);
  size = static_cast<std::uint32_t>(wanted);
}

}  // namespace flatbed
