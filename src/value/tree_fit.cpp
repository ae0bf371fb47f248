#include "value/tree_fit.hpp"

#include <algorithm>
#include <array>
#include <charconv>

namespace flatbed {

namespace {

// How torch dtypes without a counterpart in the format are stored (spec T6).
enum class Form : std::uint8_t {
  same,    // the stored shape is the tensor's own
  pairs,   // the stored shape ends in 2: real and imaginary part
  packed,  // the stored shape is [bytes]; the tensor's own shape is an attribute
};
struct StoredAs {
  std::string_view torch;
  Dtype dtype;
  Form form = Form::same;
};
constexpr std::array kStoredAs{
    StoredAs{"complex128", Dtype::f64, Form::pairs},
    StoredAs{"complex32", Dtype::f16, Form::pairs},
    StoredAs{"bcomplex32", Dtype::bf16, Form::pairs},
    StoredAs{"quint4x2", Dtype::u8, Form::packed},
    StoredAs{"quint2x4", Dtype::u8, Form::packed},
    StoredAs{"qint8", Dtype::i8},
    StoredAs{"quint8", Dtype::u8},
    StoredAs{"qint32", Dtype::i32},
    StoredAs{"bits8", Dtype::u8},
    StoredAs{"bits1x8", Dtype::u8},
    StoredAs{"bits2x4", Dtype::u8},
    StoredAs{"bits4x2", Dtype::u8},
    StoredAs{"bits16", Dtype::u16},
    StoredAs{"float4_e2m1fn_x2", Dtype::u8},
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

// The "[ns]" of dates and durations: digits, then letters, in brackets.
bool is_unit(std::string_view text) {
  if (!text.starts_with('[') || !text.ends_with(']')) return false;
  text = text.substr(1, text.size() - 2);
  text.remove_prefix(std::min(text.find_first_not_of("0123456789"), text.size()));
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  return !text.empty() && std::all_of(text.begin(), text.end(), letter);
}

}  // namespace

bool attributes_fit(const TensorAttributes& attributes, const TensorInfo& stored) {
  const auto row = std::find_if(kStoredAs.begin(), kStoredAs.end(), [&](const StoredAs& candidate) {
    return candidate.torch == attributes.dtype;
  });
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
  if (form == Form::packed && (rank != 1 || !attributes.shape)) return false;
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
  const std::string_view rest = typestr.substr(2);
  const std::size_t digits = std::min(rest.find_first_not_of("0123456789"), rest.size());
  if (digits == 0 || digits > kMaxDigits || rest[0] == '0') return std::nullopt;
  std::from_chars(rest.data(), rest.data() + digits, type.nbytes);
  if (type.kind == 'U') type.nbytes *= 4;  // the size counts characters
  const std::string_view unit = rest.substr(digits);
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
