#include "tree.hpp"

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

#include "errors.hpp"

namespace flatbed::python {

namespace {

nb::object steal_or_throw(PyObject* made) {
  if (made == nullptr) throw nb::python_error();
  return nb::steal<nb::object>(made);
}

nb::object text_of(std::string_view wtf8) {
  return steal_or_throw(
      PyUnicode_DecodeUTF8(wtf8.data(), static_cast<Py_ssize_t>(wtf8.size()), "surrogatepass"));
}

nb::object bytes_of(std::string_view bytes) {
  return steal_or_throw(
      PyBytes_FromStringAndSize(bytes.data(), static_cast<Py_ssize_t>(bytes.size())));
}

nb::object integer_of(std::string_view hex) {
  return steal_or_throw(PyLong_FromString(std::string(hex).c_str(), nullptr, 16));
}

nb::object counts_of(const std::vector<std::uint64_t>& counts) {
  nb::list list;
  for (const std::uint64_t count : counts) list.append(count);
  return nb::tuple(list);
}

nb::object tuple_of(const std::vector<nb::object>& parts) {
  nb::object tuple = steal_or_throw(PyTuple_New(static_cast<Py_ssize_t>(parts.size())));
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (PyTuple_SetItem(tuple.ptr(), static_cast<Py_ssize_t>(i),
                        nb::object(parts[i]).release().ptr()) != 0)
      throw nb::python_error();
  }
  return tuple;
}

nb::object list_of(const std::vector<nb::object>& parts) {
  nb::list list;
  for (const nb::object& part : parts) list.append(part);
  return list;
}

bool is_container(Kind kind) {
  return kind == Kind::list || kind == Kind::tuple || kind == Kind::dict || kind == Kind::object;
}

// Whether other nodes must be made before this one.
bool has_parts(Value value) {
  if (value.kind() != Kind::tensor) return is_container(value.kind());
  const TensorAttributes& attributes = value.attributes();
  return attributes.quantizer != kNoNode || attributes.state != kNoNode;
}

[[noreturn]] void refuse(ErrorCode code, std::string message) {
  raise_error(Error{code, std::move(message)});
}

}  // namespace

nb::dict attributes_of(Value tensor) {
  const TensorAttributes& given = tensor.attributes();
  nb::dict attributes;
  if (given.requires_grad) attributes["requires_grad"] = true;
  if (given.parameter) attributes["parameter"] = true;
  if (!given.device.empty()) attributes["device"] = text_of(given.device);
  if (!given.dtype.empty()) attributes["dtype"] = text_of(given.dtype);
  if (given.stride) attributes["stride"] = counts_of(*given.stride);
  if (given.shape) attributes["shape"] = counts_of(*given.shape);
  return attributes;
}

TreeBuilder::TreeBuilder(Value root, const nb::object& factory)
    : root_(root),
      tensor_(factory.attr("tensor")),
      array_(factory.attr("array")),
      scalar_(factory.attr("scalar")),
      bytes_(factory.attr("long_bytes")),
      named_(factory.attr("named")),
      call_(factory.attr("call")),
      extend_(factory.attr("extend")),
      update_(factory.attr("update")),
      set_state_(factory.attr("set_state")) {}

nb::object TreeBuilder::build() {
  if (!has_parts(root_)) return make_leaf(root_);
  open(root_.id());
  nb::object result;
  while (!stack_.empty()) {
    Frame& frame = stack_.back();
    const NodeId child = next_child(frame);
    if (child != kNoNode) {
      if (done(child).is_valid()) {
        add_tuple(frame, child);
        give(frame, done(child));
      } else if (const Value value = root_.node(child); has_parts(value)) {
        open(child);
      } else {
        give(frame, make_leaf(value));
      }
      continue;
    }
    result = finish(frame);
    const NodeId id = frame.id;
    --node_slot(opened_, id);
    done(id) = result;
    stack_.pop_back();
    if (stack_.empty()) break;
    add_tuple(stack_.back(), id);
    give(stack_.back(), result);
  }
  return result;
}

void TreeBuilder::open(NodeId id) {
  const Value value = root_.node(id);
  // A tuple that is reached again through a list of its own is made there, as pickle does.
  const unsigned most = value.kind() == Kind::tuple ? 2 : 1;
  if (node_slot(opened_, id) == most)
    refuse(ErrorCode::tree_malformed_ref, "an object of the tree is made of itself");
  ++node_slot(opened_, id);
  Frame frame{.id = id};
  if (value.kind() == Kind::list) frame.made = nb::list();
  if (value.kind() == Kind::dict) frame.made = nb::dict();
  if (value.kind() == Kind::object) frame.step = Step::function;
  if (frame.made.is_valid()) done(id) = frame.made;
  stack_.push_back(std::move(frame));
}

// The node that `frame` needs next; kNoNode if it has all.
NodeId TreeBuilder::next_child(Frame& frame) {
  const Value value = root_.node(frame.id);
  if (value.kind() == Kind::object) return next_of_object(frame, value);
  if (value.kind() == Kind::tensor) {
    const TensorAttributes& attributes = value.attributes();
    const NodeId extras[] = {attributes.quantizer, attributes.state};
    while (frame.next < 2) {
      const NodeId extra = extras[frame.next++];
      if (extra != kNoNode) return extra;
      frame.parts.push_back(nb::none());
    }
    return kNoNode;
  }
  const std::span<const NodeId> children = value.children();
  return frame.next < children.size() ? children[frame.next++] : kNoNode;
}

NodeId TreeBuilder::next_of_object(Frame& frame, Value value) {
  for (;;) {
    switch (frame.step) {
      case Step::function:
        if (frame.next++ == 0) return value.callable().id();
        break;
      case Step::arguments:
        if (frame.next++ == 0) return value.arguments().id();
        break;
      case Step::items:
        if (frame.next < value.appended_size()) return value.appended(frame.next++).id();
        break;
      case Step::pairs:
        if (frame.next < value.children().size()) return value.children()[frame.next++];
        break;
      case Step::state:
        if (value.state() && frame.next++ == 0) return value.state()->id();
        break;
      default:
        return kNoNode;
    }
    finish_step(frame);
  }
}

void TreeBuilder::add_tuple(Frame& frame, NodeId child) {
  if (root_.node(child).kind() != Kind::tuple) return;
  const TupleSize& inner = node_slot(tuples_, child);
  frame.tuples.depth = std::max(frame.tuples.depth, inner.depth);
  frame.tuples.nparts += inner.nparts;
}

void TreeBuilder::give(Frame& frame, nb::object part) {
  switch (root_.node(frame.id).kind()) {
    case Kind::list:
      if (PyList_Append(frame.made.ptr(), part.ptr()) != 0) throw nb::python_error();
      return;
    case Kind::dict:
      if (!frame.key.is_valid()) {
        frame.key = std::move(part);
        return;
      }
      if (PyObject_SetItem(frame.made.ptr(), frame.key.ptr(), part.ptr()) != 0)
        throw nb::python_error();
      frame.key = nb::object();
      return;
    default:
      frame.parts.push_back(std::move(part));
  }
}

// What follows a part of an object: the call, and all that is done to its result.
void TreeBuilder::finish_step(Frame& frame) {
  std::vector<nb::object> parts;
  switch (frame.step) {
    case Step::function:
      frame.step = Step::arguments;
      break;
    case Step::arguments:
      parts.swap(frame.parts);
      frame.made = call_python(call_, parts[0], parts[1]);
      done(frame.id) = frame.made;
      frame.step = Step::items;
      break;
    case Step::items:
      parts.swap(frame.parts);
      if (!parts.empty()) call_python(extend_, frame.made, list_of(parts));
      frame.step = Step::pairs;
      break;
    case Step::pairs: {
      parts.swap(frame.parts);
      nb::list pairs;
      for (std::size_t i = 0; i + 1 < parts.size(); i += 2)
        pairs.append(nb::make_tuple(parts[i], parts[i + 1]));
      if (!parts.empty()) call_python(update_, frame.made, pairs);
      frame.step = Step::state;
      break;
    }
    default:
      parts.swap(frame.parts);
      if (!parts.empty()) call_python(set_state_, frame.made, parts[0]);
      frame.step = Step::children;
  }
  frame.next = 0;
}

nb::object TreeBuilder::finish(Frame& frame) {
  const Value value = root_.node(frame.id);
  if (value.kind() == Kind::tensor) return make_tensor(frame, value);
  if (value.kind() != Kind::tuple) return frame.made;
  if (frame.tuples.nparts > kMaxTupleParts)
    refuse(ErrorCode::limit_exceeded, "the tuples of a tuple have more than " +
                                          std::to_string(kMaxTupleParts) +
                                          " parts, which Python could not hash");
  node_slot(tuples_, frame.id) = {frame.tuples.depth + 1, frame.tuples.nparts + frame.parts.size()};
  if (frame.tuples.depth >= kMaxTuples)
    refuse(ErrorCode::tree_too_deep, "more than " + std::to_string(kMaxTuples) +
                                         " tuples are nested, which Python could not hash");
  return done(frame.id).is_valid() ? done(frame.id) : tuple_of(frame.parts);
}

nb::object TreeBuilder::make_tensor(const Frame& frame, Value value) {
  const TensorAttributes& given = value.attributes();
  nb::dict attributes = attributes_of(value);
  if (given.quantizer != kNoNode) attributes["quantizer"] = frame.parts[0];
  if (given.state != kNoNode) attributes["state"] = frame.parts[1];
  return call_python(tensor_, *value.tensor(), attributes);
}

nb::object TreeBuilder::make_leaf(Value value) {
  switch (value.kind()) {
    case Kind::boolean:
      return nb::bool_(*value.as_bool());
    case Kind::integer:
      return nb::int_(*value.as_int());
    case Kind::big_integer:
      return integer_of(value.text());
    case Kind::real:
      return nb::float_(*value.as_real());
    case Kind::scalar:
      return call_python(scalar_, text_of(value.text()), bytes_of(value.raw()));
    default:
      break;
  }
  if (value.kind() == Kind::none) return nb::none();
  // Those that are looked for again: a text of many dicts is one object.
  nb::object& made = done(value.id());
  if (value.kind() == Kind::string) made = text_of(value.text());
  if (value.kind() == Kind::bytes)
    made = value.tensor() ? call_python(bytes_, *value.tensor()) : bytes_of(value.text());
  if (value.kind() == Kind::global)
    made = call_python(named_, text_of(value.text()), text_of(value.qualname()));
  if (value.kind() == Kind::array)
    made = call_python(array_, *value.tensor(), text_of(value.text()));
  if (value.kind() == Kind::tensor) made = make_tensor({}, value);
  return made;
}

}  // namespace flatbed::python
