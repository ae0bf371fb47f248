#include "pickle/pickle_reader.hpp"

#include "base/str_cat.hpp"

namespace flatbed::pth {

Result<void> PickleReader::take_text(Operand operand) {
  if (operand == Operand::line || operand == Operand::two_lines) {
    FLATBED_ASSIGN(text_, take_line());
    if (operand == Operand::two_lines) {
      FLATBED_ASSIGN(second_line_, take_line());
    }
  } else {
    if (operand == Operand::text_i32 && number_ > INT32_MAX)
      return make_error(ErrorCode::pickle_literal, "a negative length");
    if (number_ > remaining()) return cut_off(number_);
    text_ = as_text(pickle_.subspan(position_, number_));
    position_ += number_;
  }
  return frame_end_ != 0 && position_ >= frame_end_ ? end_frame() : Result<void>();
}

Result<std::string_view> PickleReader::take_line() {
  const std::string_view rest = as_text(pickle_.subspan(position_));
  const std::size_t end = rest.find('\n');
  if (end == std::string_view::npos)
    return make_error(ErrorCode::pickle_truncated, "a line without an end");
  position_ += end + 1;
  return rest.substr(0, end);
}

Result<void> PickleReader::begin_frame() {
  if (frame_end_ != 0)
    return make_error(ErrorCode::pickle_truncated, "it begins inside a frame that ends at byte ",
                      frame_end_);
  if (number_ > remaining()) return cut_off(number_);
  if (number_ != 0) frame_end_ = position_ + number_;
  return {};
}

Result<void> PickleReader::end_frame() {
  if (position_ > frame_end_)
    return make_error(ErrorCode::pickle_truncated, "its frame ends inside it, at byte ",
                      frame_end_);
  frame_end_ = 0;
  return {};
}

std::string PickleReader::place() const {
  if (op_begin_ == pickle_.size()) return str_cat("byte ", op_begin_);
  const std::string_view name = row(op_).name;
  if (!name.empty()) return str_cat("byte ", op_begin_, ": ", name);
  return str_cat("byte ", op_begin_, ": opcode 0x", hex(static_cast<std::uint8_t>(op_)));
}

Result<void> PickleReader::cut_off(std::uint64_t wanted) const {
  return make_error(ErrorCode::pickle_truncated, "cut off: found ", remaining(), " of ",
                    counted(wanted, "byte"));
}

Result<void> PickleReader::too_many_ops() const {
  return make_error(ErrorCode::pickle_limit, "more than ", kMaxPickleOps, " opcodes");
}

}  // namespace flatbed::pth
