#include "element_text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "float_values.hpp"

namespace flatbed::tool {
namespace {

// The caller has checked that `bytes` holds a T. The library asserts that the machine is little
// endian.
template <typename T>
T load(std::span<const std::byte> bytes) {
  T value;
  std::memcpy(&value, bytes.data(), sizeof(T));
  return value;
}

// The shortest text that reads back as the same value, with ".0" added to integers.
template <typename Float>
std::string shortest_text(Float value) {
  std::string text = fmt::format("{}", value);
  if (text.find_first_not_of("-0123456789") == std::string::npos) text += ".0";
  return text;
}

std::string hex_text(std::span<const std::byte> bytes) {
  std::string out = "0x";
  for (const std::byte byte : bytes) {
    fmt::format_to(std::back_inserter(out), "{:02x}", static_cast<unsigned>(byte));
  }
  return out;
}

struct TypestrRow {
  std::string_view typestr;
  Dtype dtype;
};
constexpr std::array kTypestrs{
    TypestrRow{"|b1", Dtype::boolean}, TypestrRow{"|i1", Dtype::i8},  TypestrRow{"|u1", Dtype::u8},
    TypestrRow{"<i2", Dtype::i16},     TypestrRow{"<u2", Dtype::u16}, TypestrRow{"<i4", Dtype::i32},
    TypestrRow{"<u4", Dtype::u32},     TypestrRow{"<i8", Dtype::i64}, TypestrRow{"<u8", Dtype::u64},
    TypestrRow{"<f2", Dtype::f16},     TypestrRow{"<f4", Dtype::f32}, TypestrRow{"<f8", Dtype::f64},
    TypestrRow{"<c8", Dtype::c64},
};

}  // namespace

std::string real_text(double value) { return shortest_text(value); }

std::string element_text(Dtype dtype, std::span<const std::byte> bytes) {
  if (bytes.size() * 8 != bits(dtype)) return hex_text(bytes);
  switch (dtype) {
    case Dtype::boolean:
      return bytes[0] == std::byte{0} ? "False" : "True";
    case Dtype::u8:
      return fmt::format("{}", load<std::uint8_t>(bytes));
    case Dtype::i8:
      return fmt::format("{}", load<std::int8_t>(bytes));
    case Dtype::u16:
      return fmt::format("{}", load<std::uint16_t>(bytes));
    case Dtype::i16:
      return fmt::format("{}", load<std::int16_t>(bytes));
    case Dtype::u32:
      return fmt::format("{}", load<std::uint32_t>(bytes));
    case Dtype::i32:
      return fmt::format("{}", load<std::int32_t>(bytes));
    case Dtype::u64:
      return fmt::format("{}", load<std::uint64_t>(bytes));
    case Dtype::i64:
      return fmt::format("{}", load<std::int64_t>(bytes));
    case Dtype::f16:
      return shortest_text(half_value(load<std::uint16_t>(bytes)));
    case Dtype::bf16:
      return shortest_text(bfloat_value(load<std::uint16_t>(bytes)));
    case Dtype::f32:
      return shortest_text(load<float>(bytes));
    case Dtype::f64:
      return shortest_text(load<double>(bytes));
    case Dtype::c64:
      return fmt::format("({}, {})", shortest_text(load<float>(bytes)),
                         shortest_text(load<float>(bytes.subspan(4))));
    default:
      return hex_text(bytes);
  }
}

std::string scalar_text(std::string_view typestr, std::string_view bytes) {
  const auto row = std::find_if(kTypestrs.begin(), kTypestrs.end(),
                                [&](const TypestrRow& r) { return r.typestr == typestr; });
  const auto data = std::as_bytes(std::span(bytes));
  return row == kTypestrs.end() ? hex_text(data) : element_text(row->dtype, data);
}

}  // namespace flatbed::tool
