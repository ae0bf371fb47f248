#include "torch/numpy_dtype.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <string_view>

#include "base/str_cat.hpp"
#include "value/tree_fit.hpp"

namespace flatbed::pth {

namespace {

struct Row {
  std::string_view name;
  std::uint64_t nbytes;
  Dtype dtype;
  std::uint32_t unit;
};
constexpr std::array kRows{
    Row{"b1", 1, Dtype::boolean, 1}, Row{"i1", 1, Dtype::i8, 1},    Row{"u1", 1, Dtype::u8, 1},
    Row{"i2", 2, Dtype::i16, 2},     Row{"u2", 2, Dtype::u16, 2},   Row{"i4", 4, Dtype::i32, 4},
    Row{"u4", 4, Dtype::u32, 4},     Row{"i8", 8, Dtype::i64, 8},   Row{"u8", 8, Dtype::u64, 8},
    Row{"f2", 2, Dtype::f16, 2},     Row{"f4", 4, Dtype::f32, 4},   Row{"f8", 8, Dtype::f64, 8},
    Row{"c8", 8, Dtype::c64, 4},     Row{"c16", 16, Dtype::f64, 8},
};
constexpr std::size_t kMaxDigits = 9;  // spec T6: a size is below 10^9
constexpr std::uint64_t kUnicodeNbytes = 4;

// The size in "f4": at least 1, without leading zeros.
std::optional<std::uint64_t> size_of(std::string_view digits) {
  if (digits.empty() || digits.size() > kMaxDigits || digits[0] == '0') return std::nullopt;
  std::uint64_t size = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), size);
  if (error != std::errc{} || end != digits.data() + digits.size()) return std::nullopt;
  return size;
}

// Strings, raw bytes, dates, and numbers without a counterpart: their bytes are kept as they are.
std::optional<NumpyDtype> read_raw(std::string_view name) {
  if (name.empty() || std::string_view("fcSUVMm").find(name[0]) == name.npos) return std::nullopt;
  const std::optional<std::uint64_t> size = size_of(name.substr(1));
  if (!size) return std::nullopt;
  NumpyDtype type;
  type.nbytes = name[0] == 'U' ? *size * kUnicodeNbytes : *size;
  type.raw = true;
  const std::uint64_t unit = name[0] == 'S' || name[0] == 'V' ? 1
                             : name[0] == 'U'                 ? kUnicodeNbytes
                             : name[0] == 'c'                 ? *size / 2
                                                              : *size;
  if (name[0] == 'c' && *size % 2 != 0) return std::nullopt;
  type.unit = static_cast<std::uint32_t>(unit);
  return type;
}

std::optional<NumpyDtype> read_name(std::string_view name) {
  const auto row = std::ranges::find(kRows, name, &Row::name);
  if (row == kRows.end()) return read_raw(name);
  NumpyDtype type;
  type.nbytes = row->nbytes;
  type.dtype = row->dtype;
  type.pair = name == "c16";
  type.unit = row->unit;
  return type;
}

bool is_nothing(Value value) {
  return value.kind() == Kind::none || (value.kind() == Kind::dict && value.size() == 0) ||
         (value.kind() == Kind::tuple && value.size() == 0);
}

// "[ns]" or "[25s]"; empty for dates without a unit.
std::optional<std::string> read_unit(Value date) {
  if (date.kind() != Kind::tuple || date.size() != 2 || !is_nothing(date.item(0)))
    return std::nullopt;
  const Value parts = date.item(1);
  if (parts.kind() != Kind::tuple || parts.size() < 2) return std::nullopt;
  const Value unit = parts.item(0);
  const std::optional<std::int64_t> count = parts.item(1).as_int();
  const bool named = unit.kind() == Kind::bytes || unit.kind() == Kind::string;
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  if (!named || unit.text().empty() || !std::ranges::all_of(unit.text(), letter) || !count ||
      *count < 1)
    return std::nullopt;
  for (std::size_t i = 2; i < parts.size(); ++i) {
    if (parts.item(i).as_int() != 1) return std::nullopt;
  }
  if (unit.text() == "generic") return std::string();
  return *count == 1 ? str_cat("[", unit.text(), "]") : str_cat("[", *count, unit.text(), "]");
}

}  // namespace

std::optional<NumpyDtype> read_numpy_dtype(Value arguments, Value state) {
  if (arguments.size() == 0 || arguments.item(0).kind() != Kind::string) return std::nullopt;
  const std::string_view name = arguments.item(0).text();
  std::optional<NumpyDtype> type = read_name(name);
  if (!type || state.kind() != Kind::tuple || state.size() < 8 || state.size() > 9)
    return std::nullopt;
  const std::optional<std::int64_t> version = state.item(0).as_int();
  const std::string_view order = state.item(1).text();
  if ((version != 3 && version != 4) || (order != "<" && order != ">" && order != "|"))
    return std::nullopt;
  for (std::size_t i = 2; i < 5; ++i) {
    if (state.item(i).kind() != Kind::none) return std::nullopt;
  }
  const std::optional<std::int64_t> nbytes = state.item(5).as_int();
  if (!nbytes || (*nbytes != -1 && static_cast<std::uint64_t>(*nbytes) != type->nbytes))
    return std::nullopt;

  const bool dated = name[0] == 'M' || name[0] == 'm';
  const bool orderless = name[0] == 'S' || name[0] == 'V' || type->nbytes == 1;
  if (!orderless && order == "|") return std::nullopt;
  const bool has_more = state.size() == 9 && !is_nothing(state.item(8));
  if (has_more && !dated) return std::nullopt;
  const std::optional<std::string> unit =
      has_more ? read_unit(state.item(8)) : std::optional(std::string());
  if (!unit) return std::nullopt;
  type->typestr = str_cat(orderless ? "|" : order, name, *unit);
  if (!parse_numpy_type(type->typestr)) return std::nullopt;
  type->big_endian = !orderless && order == ">";
  return type;
}

}  // namespace flatbed::pth
