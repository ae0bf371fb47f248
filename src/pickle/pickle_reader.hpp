// PickleReader: the bytes of a pickle as opcodes with their operands. It knows frames, lengths and
// offsets; the Unpickler gives opcodes their meaning. Borrows the bytes. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "base/bytes.hpp"
#include "flatbed/result.hpp"
#include "pickle/pickle_op.hpp"

namespace flatbed::pth {

// A checkpoint of a million tensors has 30 million opcodes. With this limit nodes, stack and memo
// fit in 32-bit numbers.
inline constexpr std::uint64_t kMaxPickleOps = 1ULL << 27;

class PickleReader {
 public:
  explicit PickleReader(std::span<const std::byte> pickle) : pickle_(pickle) {}

  // Reads the next opcode and its operand. Errors: pickle_truncated, pickle_limit (kMaxPickleOps),
  // pickle_literal (a negative length).
  [[nodiscard]] Result<void> next();

  // Whether one more opcode and 5 bytes of operand can be read, whichever it is.
  [[nodiscard]] bool is_ahead() const noexcept {
    const std::size_t end = frame_end_ != 0 ? frame_end_ : pickle_.size();
    return position_ + 6 < end && op_count_ < kMaxPickleOps;
  }
  // Valid only if is_ahead(): the next opcode, its operand of 1 or 4 bytes, and a step past both.
  [[nodiscard]] Op peek() const noexcept { return static_cast<Op>(pickle_[position_]); }
  [[nodiscard]] std::uint8_t peek_u8() const noexcept {
    return static_cast<std::uint8_t>(pickle_[position_ + 1]);
  }
  [[nodiscard]] std::uint32_t peek_u32() const noexcept {
    return load_le32(pickle_.data() + position_ + 1);
  }
  void skip(std::size_t operand_nbytes) noexcept {
    position_ += 1 + operand_nbytes;
    ++op_count_;
  }

  // These describe the opcode that next() read.
  [[nodiscard]] Op op() const noexcept { return op_; }
  [[nodiscard]] OpGroup group() const noexcept { return row(op_).group; }
  [[nodiscard]] std::uint64_t number() const noexcept {
    return number_;
  }  // also bits of a big-endian float
  [[nodiscard]] std::string_view text() const noexcept { return text_; }  // or its first line
  [[nodiscard]] std::string_view second_line() const noexcept { return second_line_; }

  // Checks a FRAME: number() bytes of whole opcodes must follow. Otherwise readers that fetch frame
  // by frame would see other opcodes. Errors: pickle_truncated.
  [[nodiscard]] Result<void> begin_frame();

  [[nodiscard]] std::uint64_t op_count() const noexcept { return op_count_; }
  [[nodiscard]] std::size_t remaining() const noexcept { return pickle_.size() - position_; }
  [[nodiscard]] std::string place() const;  // "byte 12: REDUCE"

 private:
  static const OpRow& row(Op op) noexcept { return kPickleOps[static_cast<std::uint8_t>(op)]; }
  [[nodiscard]] std::uint64_t load_number(std::size_t nbytes) const noexcept;
  [[nodiscard]] Result<void> take_text(Operand operand);
  [[nodiscard]] Result<std::string_view> take_line();
  [[nodiscard]] Result<void> end_frame();
  [[nodiscard, gnu::cold]] Result<void> cut_off(std::uint64_t wanted) const;
  [[nodiscard, gnu::cold]] Result<void> too_many_ops() const;

  std::span<const std::byte> pickle_;
  std::size_t position_ = 0;
  std::size_t op_begin_ = 0;
  std::size_t frame_end_ = 0;  // 0 outside frames
  std::uint64_t op_count_ = 0;
  std::uint64_t number_ = 0;
  std::string_view text_, second_line_;
  Op op_ = Op::stop;
};

// Inline because an ordinary checkpoint calls it half a million times. Errors are made out of line.
inline Result<void> PickleReader::next() {
  op_begin_ = position_;
  if (position_ == pickle_.size()) return cut_off(1);
  if (++op_count_ > kMaxPickleOps) return too_many_ops();
  op_ = static_cast<Op>(pickle_[position_++]);
  const OpRow& r = row(op_);
  if (remaining() < r.operand_nbytes) return cut_off(r.operand_nbytes);
  number_ = load_number(r.operand_nbytes);
  position_ += r.operand_nbytes;
  if (r.operand >= Operand::text8) return take_text(r.operand);
  return frame_end_ != 0 && position_ >= frame_end_ ? end_frame() : Result<void>();
}

// Reads a little-endian number of 0 to 8 bytes.
inline std::uint64_t PickleReader::load_number(std::size_t nbytes) const noexcept {
  const std::byte* const at = pickle_.data() + position_;
  if (remaining() >= 8)
    return nbytes == 0 ? 0 : load_le64(at) << (64 - 8 * nbytes) >> (64 - 8 * nbytes);
  std::uint64_t number = 0;
  std::memcpy(&number, at, nbytes);
  return number;
}

}  // namespace flatbed::pth
