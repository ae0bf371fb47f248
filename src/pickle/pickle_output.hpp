// PickleOutput: the bytes of a protocol 2 pickle, one opcode at a time, in the forms that CPython
// chooses. What is pickled, and in which order, is the caller's. Owns the bytes. For one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "pickle/pickle_op.hpp"

namespace flatbed::pth {

// The longest int that torch.load(weights_only=True) takes: LONG1's.
inline constexpr std::size_t kMaxLong1 = 255;

class PickleOutput {
 public:
  PickleOutput() { op(Op::proto).byte(2); }

  PickleOutput& op(Op code) { return byte(static_cast<std::uint8_t>(code)); }
  void none() { op(Op::none); }
  void boolean(bool value) { op(value ? Op::newtrue : Op::newfalse); }
  void integer(std::int64_t value);
  void unsigned_integer(std::uint64_t value);
  // Little-endian two's complement, as long_bytes() gives it.
  void long_integer(std::string_view bytes);
  void real(double value);
  void text(std::string_view wtf8);      // below 4 GiB
  void bytes(std::string_view content);  // _codecs.encode(text, 'latin1'); below 2 GiB
  // By Python 3's names; written as protocol 2 calls it. No line breaks.
  void global(std::string_view module, std::string_view name);
  // The same text again and again, written once.
  void constant(std::string_view text);
  void empty_ordered_dict();

  // Remembers the object that was written last, for get().
  [[nodiscard]] std::uint32_t put();
  void get(std::uint32_t number);

  [[nodiscard]] std::size_t size() const noexcept { return bytes_.size(); }
  // Ends the pickle.
  [[nodiscard]] std::string finish();

 private:
  PickleOutput& byte(std::uint8_t value) {
    bytes_ += static_cast<char>(value);
    return *this;
  }
  void number(std::uint64_t value, int nbytes);  // little endian
  // Writes by `write`, unless `key` was written before.
  void once(std::string key, const std::function<void()>& write);

  std::string bytes_;
  std::uint32_t memo_ = 0;
  std::map<std::string, std::uint32_t, std::less<>> written_;  // globals and constants
};

// The shortest two's complement form of "-1f" style hex digits.
[[nodiscard]] std::string long_bytes(std::string_view hex);

}  // namespace flatbed::pth
