// Runs ahead over the opcodes that make up most of a pickle, as long as they are valid. They have
// the same effect as in run_op(). At any other opcode, and at the end of a frame or pickle, it
// stops and run_op() continues, so nothing is refused here.
#include <span>

#include "torch/unpickler.hpp"

namespace flatbed::pth {

// Runs ahead over the most common opcodes on the shortest path. Stops before any other opcode, and
// before one that run_op() may have to refuse.
void Unpickler::run_common() {
  while (reader_.is_ahead() && (run_common_memo() || run_common_op())) {
  }
}

inline bool Unpickler::run_common_memo() {
  const Op op = reader_.peek();
  const bool is_long = op == Op::long_binput || op == Op::long_binget;
  const std::size_t index = is_long ? reader_.peek_u32() : reader_.peek_u8();
  if (op == Op::binget || op == Op::long_binget) {
    if (index >= memo_.size() || memo_[index] == kNoNode) return false;
    stack_.push_back(memo_[index]);
  } else if (op == Op::binput || op == Op::long_binput) {
    // Picklers number memo entries in order.
    if (index != memo_.size() || index > reader_.op_count() || available() == 0) return false;
    memo_.push_back(stack_.back());
    ++memo_size_;
  } else {
    return false;
  }
  reader_.skip(is_long ? 4 : 1);
  return true;
}

inline bool Unpickler::run_common_op() {
  NodeId node = kNoNode;
  std::size_t operand_nbytes = 0;
  std::size_t taken = 0;  // values popped from the stack
  switch (reader_.peek()) {
    case Op::mark:
      marks_.push_back(stack_.size());
      reader_.skip(0);
      return true;
    case Op::empty_tuple:
      node = empty_tuple();
      break;
    case Op::reduce:
      taken = 2;
      if (available() < 2 || stack_.back() != empty_tuple_ ||
          stack_[stack_.size() - 2] != objects_.ordered_dict_class())
        return false;
      node = tree_.add_object(objects_.ordered_dict_class(), empty_tuple_);
      break;
    case Op::tuple1:
    case Op::tuple2:
    case Op::tuple3:
      taken = static_cast<std::size_t>(reader_.peek()) - static_cast<std::size_t>(Op::tuple1) + 1;
      if (available() < taken) return false;
      node = tree_.add_tuple(std::span(stack_).last(taken));
      break;
    case Op::empty_dict:
      node = tree_.add_dict();
      break;
    case Op::binint1:
      node = small_integer(reader_.peek_u8());
      operand_nbytes = 1;
      break;
    case Op::newtrue:
      node = constant(true_, Kind::boolean, true);
      break;
    case Op::newfalse:
      node = constant(false_, Kind::boolean, false);
      break;
    case Op::none:
      node = constant(none_, Kind::none, false);
      break;
    default:
      return false;
  }
  stack_.resize(stack_.size() - taken);
  stack_.push_back(node);
  reader_.skip(operand_nbytes);
  return true;
}

}  // namespace flatbed::pth
