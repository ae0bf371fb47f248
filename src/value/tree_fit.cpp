#include "value/tree_fit.hpp"

#include <algorithm>
#include <array>
#include <charconv>

#include "base/checked.hpp"

namespace flatbed {

namespace {

// How torch dtypes without a counterpart in the format are stored (spec T6).
enum class Form : std::uint8_t {
  same,    // the stored shape is the tensor's own
  pairs,   // the stored shape ends in 2: real and imaginary part
  packed,  // the stored shape is [bytes]; the tensor's own shape is an attribute
  scalar,  // the same, and only for rank 0
};
struct StoredAs {
  std::string_view torch;
  Dtype dtype;
  Form form = Form::same;
  std::uint64_t together = 1;  // elements in a byte, if packed
};
constexpr std::array kStoredAs{
    StoredAs{"complex128", Dtype::f64, Form::pairs},
    StoredAs{"complex32", Dtype::f16, Form::pairs},
    StoredAs{"bcomplex32", Dtype::bf16, Form::pairs},
    StoredAs{"quint4x2", Dtype::u8, Form::packed, 2},
    StoredAs{"quint2x4", Dtype::u8, Form::packed, 4},
    StoredAs{"qint8", Dtype::i8},
    StoredAs{"quint8", Dtype::u8},
    StoredAs{"qint32", Dtype::i32},
    StoredAs{"bits8", Dtype::u8},
    StoredAs{"bits1x8", Dtype::u8},
    StoredAs{"bits2x4", Dtype::u8},
    StoredAs{"bits4x2", Dtype::u8},
    StoredAs{"bits16", Dtype::u16},
    StoredAs{"float4_e2m1fn_x2", Dtype::u8, Form::scalar},
    StoredAs{"int1", Dtype::i8},
    StoredAs{"int2", Dtype::i8},
    StoredAs{"int3", Dtype::i8},
    StoredAs{"int4", Dtype::i8},
    StoredAs{"int5", Dtype::i8},
    StoredAs{"int6", Dtype::i8},
    StoredAs{"int7", Dtype::i8},
    StoredAs{"uint1", Dtype::u8},
    StoredAs{"uint2", Dtype::u8},
    StoredAs{"uint3", Dtype::u8},
    StoredAs{"uint4", Dtype::u8},
    StoredAs{"uint5", Dtype::u8},
    StoredAs{"uint6", Dtype::u8},
    StoredAs{"uint7", Dtype::u8},
};

// torch's names of the dtypes that are stored under their own. The attribute never states them.
constexpr std::array<std::string_view, 19> kImplied{
    "bool",        "uint8",          "uint16",          "uint32",         "uint64",
    "int8",        "int16",          "int32",           "int64",          "float16",
    "bfloat16",    "float32",        "float64",         "complex64",      "float8_e4m3fn",
    "float8_e5m2", "float8_e8m0fnu", "float8_e4m3fnuz", "float8_e5m2fnuz"};

struct ArrayType {
  char kind;
  std::uint64_t nbytes;
  Dtype dtype;
};
constexpr std::array kArrayTypes{
    ArrayType{'b', 1, Dtype::boolean}, ArrayType{'i', 1, Dtype::i8},
    ArrayType{'u', 1, Dtype::u8},      ArrayType{'i', 2, Dtype::i16},
    ArrayType{'u', 2, Dtype::u16},     ArrayType{'i', 4, Dtype::i32},
    ArrayType{'u', 4, Dtype::u32},     ArrayType{'i', 8, Dtype::i64},
    ArrayType{'u', 8, Dtype::u64},     ArrayType{'f', 2, Dtype::f16},
    ArrayType{'f', 4, Dtype::f32},     ArrayType{'f', 8, Dtype::f64},
    ArrayType{'c', 8, Dtype::c64},     ArrayType{'c', 16, Dtype::f64},
};

bool ends_in(ShapeView shape, std::uint64_t size) { return !shape.empty() && shape.back() == size; }

// Elements of a packed type share bytes within a row, which is padded to whole bytes.
bool is_packed_size(const std::vector<std::uint64_t>& shape, std::uint64_t together,
                    std::uint64_t stored_nbytes) {
  if (std::ranges::find(shape, 0U) != shape.end()) return stored_nbytes == 0;
  std::optional<std::uint64_t> nbytes = 1;
  for (std::size_t i = 0; i < shape.size() && nbytes; ++i) {
    const bool row = i + 1 == shape.size();
    nbytes = checked_mul(*nbytes,
                         row ? shape[i] / together + (shape[i] % together != 0 ? 1 : 0) : shape[i]);
  }
  return nbytes == stored_nbytes;
}

// The decimal number at the start of `text`, without leading zeros, which is taken off; 0 if there
// is none, or a longer one.
std::uint64_t take_number(std::string_view& text, std::size_t max_digits) {
  const std::size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  if (digits == 0 || digits > max_digits || text[0] == '0') return 0;
  std::uint64_t number = 0;
  std::from_chars(text.data(), text.data() + digits, number);
  text.remove_prefix(digits);
  return number;
}

// The "[ns]" or "[25s]" of dates and durations: a count from 2 on, a unit, in brackets.
bool is_unit(std::string_view text) {
  constexpr std::array<std::string_view, 13> kUnits{"Y",  "M",  "W",  "D",  "h",  "m", "s",
                                                    "ms", "us", "ns", "ps", "fs", "as"};
  constexpr std::size_t kMaxDigits = 9;
  if (!text.starts_with('[') || !text.ends_with(']')) return false;
  text = text.substr(1, text.size() - 2);
  const bool counted = !text.empty() && text[0] >= '0' && text[0] <= '9';
  if (counted && take_number(text, kMaxDigits) < 2) return false;
  return std::ranges::find(kUnits, text) != kUnits.end();
}

// The sizes that numpy has for a kind, and '|' exactly where the order of bytes means nothing.
bool exists(char order, char kind, std::uint64_t size) {
  constexpr std::uint32_t kIntegers = 1U << 1 | 1U << 2 | 1U << 4 | 1U << 8;
  constexpr std::uint32_t kFloats = 1U << 2 | 1U << 4 | 1U << 8 | 1U << 12 | 1U << 16;
  constexpr std::uint32_t kComplex = 1U << 8 | 1U << 16 | 1U << 24;
  const bool any_size = kind == 'S' || kind == 'U' || kind == 'V';
  const std::uint32_t sizes = kind == 'b'                  ? 1U << 1
                              : kind == 'i' || kind == 'u' ? kIntegers
                              : kind == 'f'                ? kFloats
                              : kind == 'c'                ? kComplex
                                                           : 1U << 8;
  const bool wide_complex = kind == 'c' && size == 32;
  if (!any_size && !wide_complex && (size >= 32 || (sizes >> size & 1) == 0)) return false;
  const bool orderless = kind == 'S' || kind == 'V' || (!any_size && size == 1);
  return (order == '|') == orderless;
}

}  // namespace

bool attributes_fit(const TensorAttributes& attributes, const TensorInfo& stored) {
  const auto row = std::find_if(kStoredAs.begin(), kStoredAs.end(), [&](const StoredAs& candidate) {
    return candidate.torch == attributes.dtype;
  });
  if (std::ranges::find(kImplied, attributes.dtype) != kImplied.end()) return false;
  std::size_t rank = stored.shape.size();
  Form form = Form::same;
  if (row != kStoredAs.end()) {
    form = row->form;
    if (row->dtype != stored.dtype) return false;
  }
  if (form == Form::pairs) {
    if (!ends_in(stored.shape, 2)) return false;
    rank -= 1;
  }
  if (form == Form::scalar && rank != 0) return false;
  if (form == Form::packed &&
      (rank != 1 || !attributes.shape ||
       !is_packed_size(*attributes.shape, row->together, stored.shape[0]))) {
    return false;
  }
  // A dtype that is not in the table comes from a later torch; its form is unknown.
  const bool known = attributes.dtype.empty() || row != kStoredAs.end();
  if (known && form != Form::packed && attributes.shape) return false;
  if (attributes.shape) rank = attributes.shape->size();
  return !attributes.stride || attributes.stride->size() == rank;
}

std::optional<NumpyType> parse_numpy_type(std::string_view typestr) {
  constexpr std::size_t kMaxDigits = 9;
  if (typestr.size() < 3 || std::string_view("<>|").find(typestr[0]) == typestr.npos)
    return std::nullopt;
  NumpyType type{typestr[1], 0};
  if (std::string_view("biufcSUVMm").find(type.kind) == typestr.npos) return std::nullopt;
  std::string_view unit = typestr.substr(2);  // once the size is taken off
  type.nbytes = take_number(unit, kMaxDigits);
  if (type.nbytes == 0 || !exists(typestr[0], type.kind, type.nbytes)) return std::nullopt;
  if (type.kind == 'U') type.nbytes *= 4;  // the size counts characters
  const bool dated = type.kind == 'M' || type.kind == 'm';
  return unit.empty() || (dated && is_unit(unit)) ? std::optional(type) : std::nullopt;
}

bool array_fits(const NumpyType& type, const TensorInfo& stored) {
  const auto row =
      std::find_if(kArrayTypes.begin(), kArrayTypes.end(), [&](const ArrayType& candidate) {
        return candidate.kind == type.kind && candidate.nbytes == type.nbytes;
      });
  if (row == kArrayTypes.end())
    return stored.dtype == Dtype::u8 && ends_in(stored.shape, type.nbytes);
  const bool pairs = type.kind == 'c' && type.nbytes == 16;
  return stored.dtype == row->dtype && (!pairs || ends_in(stored.shape, 2));
}

}  // namespace flatbed
