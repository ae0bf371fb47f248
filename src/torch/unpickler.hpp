// Unpickler: the pickle machine, protocols 0 to 5, as a recorder of calls.
// It runs the opcodes over a stack of tree nodes. Containers and literals become nodes. Globals,
// calls and persistent ids go to TorchObjects, which imports and executes nothing. PUT and GET
// share node numbers, so that one Python object is one node. Nothing here recurses. Memory is
// linear in the pickle: each opcode adds at most a few nodes, and every length is compared with
// what is left before memory is allocated for it.
// Borrows the pickle's bytes, the tree and the objects. Use once, on one thread.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "flatbed/result.hpp"
#include "flatbed/value.hpp"
#include "io/large_allocator.hpp"
#include "pickle/pickle_literal.hpp"
#include "pickle/pickle_reader.hpp"
#include "torch/torch_objects.hpp"

namespace flatbed::pth {

inline constexpr std::uint64_t kMaxStringBytes = 0xFFFFFFFE;  // the most that a tree node can hold
inline constexpr std::uint8_t kMaxPickleProtocol = 5;
// Limits on the bytes of names that STACK_GLOBAL makes of texts on the stack, which may be the same
// long texts again and again: per byte of the pickle, and for any pickle.
inline constexpr std::uint64_t kMaxNameRatio = 16;
inline constexpr std::uint64_t kFreeNameBytes = 64 * 1024;

// Room that is reserved: one node for this many bytes of a pickle (a state dict has one per 15, a
// whole model one per 10), one memo entry for this many (writing one takes 5), and at most this
// much in all. Unused memory is never touched.
inline constexpr std::size_t kBytesPerNode = 8;
inline constexpr std::size_t kBytesPerMemo = 10;
inline constexpr std::size_t kMaxReserve = 256 << 20;

class Unpickler {
 public:
  Unpickler(std::span<const std::byte> pickle, ValueTree& tree, TorchObjects& objects)
      : reader_(pickle),
        tree_(tree),
        objects_(objects),
        name_nbytes_(kFreeNameBytes + pickle.size() * kMaxNameRatio) {
    small_integers_.fill(kNoNode);
    const std::size_t nbytes = std::min(pickle.size(), kMaxReserve);
    if (tree.size() == 0) tree.reserve(nbytes / kBytesPerNode);
    memo_.reserve(nbytes / kBytesPerMemo);
  }

  // Runs up to STOP and returns the value that it leaves. Errors: pickle_*, and those of
  // TorchObjects. The message begins with the opcode's offset and name.
  [[nodiscard]] Result<NodeId> run();

  // The number of bytes after STOP.
  [[nodiscard]] std::size_t trailing_nbytes() const noexcept { return reader_.remaining(); }

 private:
  void run_common();
  [[nodiscard]] bool run_common_memo();
  [[nodiscard]] bool run_common_op();
  [[nodiscard]] Result<void> run_op();
  // Errors of the opcodes that make up nearly all of a pickle.
  [[nodiscard, gnu::cold]] Result<void> underflow(std::size_t wanted) const;
  [[nodiscard, gnu::cold]] Result<void> memo_limit(std::uint64_t index) const;
  [[nodiscard, gnu::cold]] Result<void> memo_missing(std::uint64_t index) const;

  [[nodiscard]] Result<void> run_literal(Op op);
  [[nodiscard]] Result<void> run_text_literal(Op op);
  [[nodiscard]] Result<void> run_stack(Op op);
  [[nodiscard]] Result<void> run_container(Op op);
  [[nodiscard]] Result<void> run_memo(Op op);
  [[nodiscard]] Result<void> run_text_memo(Op op);
  [[nodiscard]] Result<void> run_call(Op op);

  [[nodiscard]] NodeId integer_node(const PickleInteger& integer);
  [[nodiscard]] NodeId small_integer(std::uint8_t value);
  [[nodiscard]] NodeId empty_tuple();
  [[nodiscard]] NodeId constant(NodeId& node, Kind kind, bool value);
  [[nodiscard]] Result<void> push_string(std::string_view text);
  [[nodiscard]] Result<void> push_python2_string(std::string_view bytes);

  [[nodiscard]] Result<void> push_tuple(std::size_t count);
  [[nodiscard]] Result<void> fill(Op op, std::size_t begin);
  [[nodiscard]] Result<void> set_pairs(NodeId target, std::span<const NodeId> pairs);

  [[nodiscard]] Result<void> put(std::uint64_t index);
  [[nodiscard]] Result<void> get(std::uint64_t index);
  [[nodiscard]] Result<std::uint64_t> memo_index() const;

  [[nodiscard]] Result<NodeId> global(std::string_view module, std::string_view name);
  [[nodiscard]] Result<NodeId> stack_global();
  [[nodiscard]] Result<NodeId> new_object(Op op);
  [[nodiscard]] Result<NodeId> old_object(Op op);
  [[nodiscard]] Result<void> build();

  // The number of values above the last mark. Opcodes reach no deeper.
  [[nodiscard]] std::size_t available() const noexcept {
    return stack_.size() - (marks_.empty() ? 0 : marks_.back());
  }
  [[nodiscard]] Result<std::size_t> pop_mark();  // the stack's size when the mark was set
  [[nodiscard]] NodeId pop() noexcept;           // the caller has checked available()
  [[nodiscard]] Result<void> push(NodeId node) {
    stack_.push_back(node);
    return {};
  }
  [[nodiscard]] Result<void> push_result(Result<NodeId> node);

  PickleReader reader_;
  ValueTree& tree_;
  TorchObjects& objects_;
  std::uint8_t protocol_ = 0;
  bool stopped_ = false;
  std::vector<NodeId> stack_;
  std::vector<std::size_t> marks_;
  LargeVector<NodeId> memo_;
  std::size_t memo_size_ = 0;  // entries that were written
  std::uint64_t name_nbytes_;  // bytes that STACK_GLOBAL may still make
  // Nodes that stand for one Python object each, created on first use.
  NodeId none_ = kNoNode, true_ = kNoNode, false_ = kNoNode, empty_tuple_ = kNoNode;
  std::array<NodeId, 256> small_integers_;
  NodeId newobj_ = kNoNode, newobj_ex_ = kNoNode;
};

// One node for each small int, as in CPython: sizes, strides and offsets are nearly half of the
// values in a pickle, hence inline.
inline NodeId Unpickler::small_integer(std::uint8_t value) {
  NodeId& node = small_integers_[value];
  if (node == kNoNode) node = tree_.add_integer(value);
  return node;
}

// One node for each of None, True and False, as in Python.
inline NodeId Unpickler::constant(NodeId& node, Kind kind, bool value) {
  if (node == kNoNode) node = kind == Kind::none ? tree_.add_none() : tree_.add_boolean(value);
  return node;
}

inline NodeId Unpickler::empty_tuple() {
  if (empty_tuple_ == kNoNode) empty_tuple_ = tree_.add_tuple({});
  return empty_tuple_;
}

}  // namespace flatbed::pth
