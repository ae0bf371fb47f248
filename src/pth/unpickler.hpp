// Unpickler: the pickle machine, protocols 0 to 5, as a recorder of calls.
//
// It runs the opcodes over a stack of tree nodes. Containers and literals become nodes; globals, calls and persistent
// ids go to TorchObjects, which imports and executes nothing. PUT and GET share node numbers, so that what was one
// Python object is one node. Nothing here recurses, and memory is linear in the pickle: each opcode adds at most a few
// nodes, and every length is compared with what is left before anything is made of it.
//
// Borrows the pickle's bytes, the tree and the objects. Use once, on one thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "flatbed/result.hpp"
#include "flatbed/value.hpp"
#include "pth/pickle_literal.hpp"
#include "pth/pickle_op.hpp"
#include "pth/torch_objects.hpp"

namespace flatbed::pth {

// A checkpoint of a million tensors has 30 million. With it nodes, stack and memo stay within 32-bit numbers.
inline constexpr std::uint64_t kMaxPickleOps = 1ULL << 27;
inline constexpr std::uint64_t kMaxStringBytes = 0xFFFFFFFE;  // what a tree node can hold
inline constexpr std::uint8_t kMaxPickleProtocol = 5;

class Unpickler {
 public:
  Unpickler(std::span<const std::byte> pickle, ValueTree& tree, TorchObjects& objects)
      : pickle_(pickle), tree_(tree), objects_(objects) {
    small_integers_.fill(kNoNode);
  }

  // Runs up to STOP and returns what it leaves. Errors: pickle_*, and those of TorchObjects; the message begins with
  // the opcode's place and name.
  [[nodiscard]] Result<NodeId> run();

  // The bytes that STOP was not the end of.
  [[nodiscard]] std::size_t trailing_nbytes() const noexcept { return pickle_.size() - position_; }

 private:
  // What follows the present opcode.
  struct Argument {
    std::uint64_t number = 0;
    std::string_view text, second_line;
  };

  [[nodiscard]] Result<void> step();
  [[nodiscard]] std::uint64_t load_number(std::size_t nbytes) const noexcept;
  [[nodiscard]] Result<void> run_with_text(Op op, const OpRow& row);
  [[nodiscard]] Result<void> run_op(Op op, OpGroup group);
  [[nodiscard]] Result<std::string_view> take_line();

  // Errors of the opcodes that are nearly all of a pickle.
  [[nodiscard, gnu::cold]] std::string place(std::size_t begin) const;
  [[nodiscard, gnu::cold]] Result<void> cut_off(std::uint64_t wanted) const;
  [[nodiscard, gnu::cold]] Result<void> too_many_ops() const;
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
  [[nodiscard]] NodeId constant(NodeId& node, Kind kind, bool value);
  [[nodiscard]] Result<void> push_string(std::string_view text);
  [[nodiscard]] Result<void> push_python2_string(std::string_view bytes);
  [[nodiscard]] Result<void> begin_frame();

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

  // The number of values above the last mark; opcodes reach no deeper.
  [[nodiscard]] std::size_t available() const noexcept { return stack_.size() - (marks_.empty() ? 0 : marks_.back()); }
  [[nodiscard]] Result<std::size_t> pop_mark();  // the stack's size when it was set
  [[nodiscard]] NodeId pop() noexcept;  // available() was checked
  [[nodiscard]] Result<void> push(NodeId node) {
    stack_.push_back(node);
    return {};
  }
  [[nodiscard]] Result<void> push_result(Result<NodeId> node);

  std::span<const std::byte> pickle_;
  ValueTree& tree_;
  TorchObjects& objects_;
  std::size_t position_ = 0;
  std::size_t frame_end_ = 0;  // 0: outside frames
  std::uint64_t op_count_ = 0;
  std::uint8_t protocol_ = 0;
  bool stopped_ = false;
  Argument argument_;
  std::vector<NodeId> stack_;
  std::vector<std::size_t> marks_;
  std::vector<NodeId> memo_;
  std::size_t memo_size_ = 0;  // entries that were written
  // Nodes that stand for one Python object each, once they were needed.
  NodeId none_ = kNoNode, true_ = kNoNode, false_ = kNoNode, empty_tuple_ = kNoNode;
  std::array<NodeId, 256> small_integers_;
  NodeId newobj_ = kNoNode, newobj_ex_ = kNoNode;
};

}  // namespace flatbed::pth
