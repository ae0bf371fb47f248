// PickleOutput: the bytes of a protocol 2 pickle, one opcode at a time, in the forms that CPython
// chooses. The caller decides what is pickled and in which order. Owns the bytes. Not thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "pickle/pickle_op.hpp"

namespace flatbed::pth {

// The longest int that torch.load(weights_only=True) accepts: that of LONG1.
inline constexpr std::size_t kMaxLong1 = 255;

class PickleOutput {
 public:
  PickleOutput() { op(Op::proto).byte(2); }

  PickleOutput& op(Op code) { return byte(static_cast<std::uint8_t>(code)); }
  void none() { op(Op::none); }
  void boolean(bool value) { op(value ? Op::newtrue : Op::newfalse); }
  void integer(std::int64_t value);
  void unsigned_integer(std::uint64_t value);
  // Little-endian two's complement, as returned by long_bytes().
  void long_integer(std::string_view bytes);
  void real(double value);
  void text(std::string_view wtf8);      // below 4 GiB
  void bytes(std::string_view content);  // _codecs.encode(text, 'latin1'); below 2 GiB
  // Takes Python 3's names and writes them as protocol 2 does. No line breaks.
  void global(std::string_view module, std::string_view name);
  // Writes a text that recurs: once in full, then by reference.
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
  // Calls `write`, unless `key` was written before.
  void once(std::string key, const std::function<void()>& write);

  std::string bytes_;
  std::uint32_t memo_ = 0;
  std::map<std::string, std::uint32_t, std::less<>> written_;  // globals and constants
};

// The shortest two's complement form of hex digits in "-1f" style.
[[nodiscard]] std::string long_bytes(std::string_view hex);

}  // namespace flatbed::pth
