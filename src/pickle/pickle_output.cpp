#include "pickle/pickle_output.hpp"

#include <algorithm>
#include <bit>
#include <limits>
#include <utility>

#include "base/str_cat.hpp"
#include "pickle/python_names.hpp"

namespace flatbed::pth {

namespace {

unsigned digit_of(char c) { return static_cast<unsigned>(c >= 'a' ? c - 'a' + 10 : c - '0'); }

bool is_negative(const std::string& bytes) {
  return (static_cast<unsigned char>(bytes.back()) & 0x80U) != 0;
}

// Negates a two's complement number: flips all bits and adds one.
void negate(std::string& bytes) {
  unsigned carry = 1;
  for (char& c : bytes) {
    const unsigned value = (static_cast<unsigned char>(c) ^ 0xFFU) + carry;
    c = static_cast<char>(value);
    carry = value >> 8;
  }
}

// Drops bytes that only repeat the sign.
void shorten(std::string& bytes) {
  while (bytes.size() > 1) {
    const bool negative = is_negative(bytes);
    if (bytes.back() != (negative ? '\xFF' : '\0')) return;
    std::string shorter = bytes.substr(0, bytes.size() - 1);
    if (is_negative(shorter) != negative) return;
    bytes = std::move(shorter);
  }
}

}  // namespace

std::string long_bytes(std::string_view hex) {
  const bool minus = hex.starts_with('-');
  if (minus) hex.remove_prefix(1);
  std::string bytes(hex.size() / 2 + 1, '\0');  // one byte more for the sign
  for (std::size_t i = 0; i < hex.size(); ++i) {
    const unsigned digit = digit_of(hex[hex.size() - 1 - i]);
    char& c = bytes[i / 2];
    c = static_cast<char>(static_cast<unsigned char>(c) | digit << (i % 2 * 4));
  }
  if (is_negative(bytes)) bytes += '\0';
  if (minus) negate(bytes);
  shorten(bytes);
  return bytes;
}

void PickleOutput::number(std::uint64_t value, int nbytes) {
  for (int i = 0; i < nbytes; ++i) byte(static_cast<std::uint8_t>(value >> (8 * i)));
}

void PickleOutput::integer(std::int64_t value) {
  if (value >= 0 && value <= 0xFF) {
    op(Op::binint1).number(static_cast<std::uint64_t>(value), 1);
  } else if (value >= 0 && value <= 0xFFFF) {
    op(Op::binint2).number(static_cast<std::uint64_t>(value), 2);
  } else if (value >= std::numeric_limits<std::int32_t>::min() &&
             value <= std::numeric_limits<std::int32_t>::max()) {
    op(Op::binint).number(static_cast<std::uint64_t>(value), 4);
  } else {
    const auto magnitude = static_cast<std::uint64_t>(value);
    long_integer(long_bytes(value < 0 ? str_cat("-", hex(~magnitude + 1)) : hex(magnitude)));
  }
}

void PickleOutput::unsigned_integer(std::uint64_t value) {
  if (value <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
    return integer(static_cast<std::int64_t>(value));
  long_integer(long_bytes(hex(value)));
}

void PickleOutput::long_integer(std::string_view bytes) {
  if (bytes.size() <= kMaxLong1) {
    op(Op::long1).number(bytes.size(), 1);
  } else {
    op(Op::long4).number(bytes.size(), 4);
  }
  bytes_ += bytes;
}

void PickleOutput::real(double value) {
  op(Op::binfloat);
  const auto bits = std::bit_cast<std::uint64_t>(value);
  for (int shift = 56; shift >= 0; shift -= 8) byte(static_cast<std::uint8_t>(bits >> shift));
}

void PickleOutput::text(std::string_view wtf8) {
  op(Op::binunicode).number(wtf8.size(), 4);
  bytes_ += wtf8;
}

// Empty bytes are written this way too, because weights_only does not know CPython's bytes().
void PickleOutput::bytes(std::string_view content) {
  global("_codecs", "encode");
  const auto wide = static_cast<std::size_t>(
      std::count_if(content.begin(), content.end(), [](char c) { return (c & 0x80) != 0; }));
  op(Op::binunicode).number(content.size() + wide, 4);
  for (const char c : content) {
    const auto value = static_cast<unsigned char>(c);
    if (value < 0x80) {
      bytes_ += c;
    } else {
      byte(static_cast<std::uint8_t>(0xC0 | value >> 6));
      byte(static_cast<std::uint8_t>(0x80 | (value & 0x3F)));
    }
  }
  constant("latin1");
  op(Op::tuple2).op(Op::reduce);
}

void PickleOutput::once(std::string key, const std::function<void()>& write) {
  const auto [entry, is_new] = written_.try_emplace(std::move(key), 0);
  if (!is_new) return get(entry->second);
  write();
  entry->second = put();
}

void PickleOutput::global(std::string_view module, std::string_view name) {
  const PythonName old = python2_name({module, name});
  const std::string lines = str_cat(old.module, "\n", old.name, "\n");
  once(lines, [&] {
    op(Op::global);
    bytes_ += lines;
  });
}

void PickleOutput::constant(std::string_view constant) {
  once(std::string(constant), [&] { text(constant); });
}

void PickleOutput::empty_ordered_dict() {
  global("collections", "OrderedDict");
  op(Op::empty_tuple).op(Op::reduce);
}

std::uint32_t PickleOutput::put() {
  if (memo_ <= 0xFF) {
    op(Op::binput).number(memo_, 1);
  } else {
    op(Op::long_binput).number(memo_, 4);
  }
  return memo_++;
}

void PickleOutput::get(std::uint32_t number_of) {
  if (number_of <= 0xFF) {
    op(Op::binget).number(number_of, 1);
  } else {
    op(Op::long_binget).number(number_of, 4);
  }
}

std::string PickleOutput::finish() {
  op(Op::stop);
  return std::move(bytes_);
}

}  // namespace flatbed::pth
