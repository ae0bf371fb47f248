// The structure around a checkpoint's tensors as objects of Python. A TreeBuilder makes None,
// numbers, texts, bytes, lists, tuples and dicts itself, and asks a factory of Python for all else:
//
//   tensor(index, attributes)     the tensor of this number; attributes is a dict of what differs
//                                 from the defaults: requires_grad, parameter, device, dtype,
//                                 stride, shape, quantizer, state
//   array(index, typestr)         a numpy array;  scalar(typestr, bytes)    a numpy scalar
//   long_bytes(index)             the bytes object with the contents of this tensor
//   named(module, qualname)       a class, function or constant
//   call(function, arguments)     what the call returns, where it is made
//   extend(made, items)  update(made, pairs)  set_state(made, state)
//
// Objects that a file shares are one object, and cycles are kept, in the order in which pickle
// makes them. Nothing here recurses: the depth of a tree costs memory, not stack.
#pragma once

#include <nanobind/nanobind.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "flatbed/value.hpp"

namespace flatbed::python {

namespace nb = nanobind;

// What is kept for each node of a tree, whose number of nodes a Value does not tell.
template <typename T>
T& node_slot(std::vector<T>& slots, NodeId id) {
  if (slots.size() <= id) slots.resize(std::size_t{id} + 1 + slots.size() / 2);
  return slots[id];
}

// The attributes of a tensor as tensor() of the factory gets them, without quantizer and state.
[[nodiscard]] nb::dict attributes_of(Value tensor);

// For one tree, on one thread that holds the GIL. Borrows the tree.
class TreeBuilder {
 public:
  // Python hashes nested tuples by recursion and a shared one each time that it meets it, so their
  // depth is limited, and how many parts there are in the tuples of a tuple.
  static constexpr std::size_t kMaxTuples = 500;
  static constexpr std::uint64_t kMaxTupleParts = std::uint64_t{1} << 22;

  TreeBuilder(Value root, const nb::object& factory);

  // Throws what the factory raises, and flatbed.FormatError for a tree that Python cannot hold.
  nb::object build();

 private:
  enum class Step : std::uint8_t { children, function, arguments, items, pairs, state, extras };

  // What a tuple is to Python's hash.
  struct TupleSize {
    std::size_t depth = 0;     // of tuples in tuples
    std::uint64_t nparts = 0;  // its own, and those of the tuples in it, as often as they are there
  };

  // A container that is being filled.
  struct Frame {
    NodeId id = kNoNode;
    Step step = Step::children;
    std::size_t next = 0;
    TupleSize tuples = {};  // of the tuples in it
    nb::object made = {};   // list, dict; object: once it was called
    nb::object key = {};    // the key whose value comes next
    std::vector<nb::object> parts = {};
  };

  void open(NodeId id);
  [[nodiscard]] NodeId next_child(Frame& frame);
  [[nodiscard]] NodeId next_of_object(Frame& frame, Value value);
  void give(Frame& frame, nb::object part);
  void add_tuple(Frame& frame, NodeId child);
  [[nodiscard]] nb::object finish(Frame& frame);
  void finish_step(Frame& frame);
  [[nodiscard]] nb::object make_leaf(Value value);
  [[nodiscard]] nb::object make_tensor(const Frame& frame, Value value);

  [[nodiscard]] nb::object& done(NodeId id) { return node_slot(done_, id); }

  Value root_;
  nb::object tensor_, array_, scalar_, bytes_, named_, call_, extend_, update_, set_state_;
  std::vector<nb::object> done_;  // by node
  std::vector<TupleSize> tuples_;
  std::vector<std::uint8_t> opened_;
  std::vector<Frame> stack_;
};

}  // namespace flatbed::python
