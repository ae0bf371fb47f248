// torch's element types: their names, their width, and how they are stored (spec T6).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "flatbed/dtype.hpp"

namespace flatbed::pth {

// How the stored shape follows from torch's shape.
enum class StoredAs : std::uint8_t {
  same,
  pair,       // one more dimension of 2: real and imaginary part
  packed,     // the last dimension doubled, because torch counts bytes of two elements
  quantized,  // integers that a quantizer turns into numbers
  sub_byte,   // the same, several in a byte; one dimension, of bytes
};

struct TorchDtype {
  std::string_view name;     // torch.<name>
  std::string_view storage;  // torch.<storage>; empty if it only occurs in an UntypedStorage
  Dtype dtype;
  std::uint8_t nbytes;  // of one torch element
  // Bytes that are reversed together in big-endian data: half of a complex number.
  std::uint8_t unit;
  StoredAs stored_as;
  bool named;  // the stored dtype does not determine the torch dtype
  bool complex;
};

inline constexpr std::array kTorchDtypes{
    TorchDtype{"float64", "DoubleStorage", Dtype::f64, 8, 8, StoredAs::same, false, false},
    TorchDtype{"float32", "FloatStorage", Dtype::f32, 4, 4, StoredAs::same, false, false},
    TorchDtype{"float16", "HalfStorage", Dtype::f16, 2, 2, StoredAs::same, false, false},
    TorchDtype{"bfloat16", "BFloat16Storage", Dtype::bf16, 2, 2, StoredAs::same, false, false},
    TorchDtype{"int64", "LongStorage", Dtype::i64, 8, 8, StoredAs::same, false, false},
    TorchDtype{"int32", "IntStorage", Dtype::i32, 4, 4, StoredAs::same, false, false},
    TorchDtype{"int16", "ShortStorage", Dtype::i16, 2, 2, StoredAs::same, false, false},
    TorchDtype{"int8", "CharStorage", Dtype::i8, 1, 1, StoredAs::same, false, false},
    TorchDtype{"uint8", "ByteStorage", Dtype::u8, 1, 1, StoredAs::same, false, false},
    TorchDtype{"bool", "BoolStorage", Dtype::boolean, 1, 1, StoredAs::same, false, false},
    TorchDtype{"complex64", "ComplexFloatStorage", Dtype::c64, 8, 4, StoredAs::same, false, true},
    TorchDtype{"complex128", "ComplexDoubleStorage", Dtype::f64, 16, 8, StoredAs::pair, true, true},
    TorchDtype{"complex32", "", Dtype::f16, 4, 2, StoredAs::pair, true, true},
    TorchDtype{"bcomplex32", "", Dtype::bf16, 4, 2, StoredAs::pair, true, true},
    TorchDtype{"uint16", "", Dtype::u16, 2, 2, StoredAs::same, false, false},
    TorchDtype{"uint32", "", Dtype::u32, 4, 4, StoredAs::same, false, false},
    TorchDtype{"uint64", "", Dtype::u64, 8, 8, StoredAs::same, false, false},
    TorchDtype{"float8_e4m3fn", "", Dtype::f8_e4m3, 1, 1, StoredAs::same, false, false},
    TorchDtype{"float8_e5m2", "", Dtype::f8_e5m2, 1, 1, StoredAs::same, false, false},
    TorchDtype{"float8_e4m3fnuz", "", Dtype::f8_e4m3fnuz, 1, 1, StoredAs::same, false, false},
    TorchDtype{"float8_e5m2fnuz", "", Dtype::f8_e5m2fnuz, 1, 1, StoredAs::same, false, false},
    TorchDtype{"float8_e8m0fnu", "", Dtype::f8_e8m0, 1, 1, StoredAs::same, false, false},
    TorchDtype{"float4_e2m1fn_x2", "", Dtype::f4, 1, 1, StoredAs::packed, false, false},
    TorchDtype{"bits8", "", Dtype::u8, 1, 1, StoredAs::same, true, false},
    TorchDtype{"bits1x8", "", Dtype::u8, 1, 1, StoredAs::same, true, false},
    TorchDtype{"bits2x4", "", Dtype::u8, 1, 1, StoredAs::same, true, false},
    TorchDtype{"bits4x2", "", Dtype::u8, 1, 1, StoredAs::same, true, false},
    TorchDtype{"bits16", "", Dtype::u16, 2, 2, StoredAs::same, true, false},
    TorchDtype{"int1", "", Dtype::i8, 1, 1, StoredAs::same, true, false},
    TorchDtype{"int2", "", Dtype::i8, 1, 1, StoredAs::same, true, false},
    TorchDtype{"int3", "", Dtype::i8, 1, 1, StoredAs::same, true, false},
    TorchDtype{"int4", "", Dtype::i8, 1, 1, StoredAs::same, true, false},
    TorchDtype{"int5", "", Dtype::i8, 1, 1, StoredAs::same, true, false},
    TorchDtype{"int6", "", Dtype::i8, 1, 1, StoredAs::same, true, false},
    TorchDtype{"int7", "", Dtype::i8, 1, 1, StoredAs::same, true, false},
    TorchDtype{"uint1", "", Dtype::u8, 1, 1, StoredAs::same, true, false},
    TorchDtype{"uint2", "", Dtype::u8, 1, 1, StoredAs::same, true, false},
    TorchDtype{"uint3", "", Dtype::u8, 1, 1, StoredAs::same, true, false},
    TorchDtype{"uint4", "", Dtype::u8, 1, 1, StoredAs::same, true, false},
    TorchDtype{"uint5", "", Dtype::u8, 1, 1, StoredAs::same, true, false},
    TorchDtype{"uint6", "", Dtype::u8, 1, 1, StoredAs::same, true, false},
    TorchDtype{"uint7", "", Dtype::u8, 1, 1, StoredAs::same, true, false},
    TorchDtype{"qint8", "QInt8Storage", Dtype::i8, 1, 1, StoredAs::quantized, true, false},
    TorchDtype{"quint8", "QUInt8Storage", Dtype::u8, 1, 1, StoredAs::quantized, true, false},
    TorchDtype{"qint32", "QInt32Storage", Dtype::i32, 4, 4, StoredAs::quantized, true, false},
    TorchDtype{"quint4x2", "QUInt4x2Storage", Dtype::u8, 1, 1, StoredAs::sub_byte, true, false},
    TorchDtype{"quint2x4", "QUInt2x4Storage", Dtype::u8, 1, 1, StoredAs::sub_byte, true, false},
};
static_assert(kTorchDtypes.size() == 47);

inline constexpr std::uint8_t kNoTorchDtype = 0xFF;

[[nodiscard]] constexpr bool is_quantized(const TorchDtype& dtype) noexcept {
  return dtype.stored_as == StoredAs::quantized || dtype.stored_as == StoredAs::sub_byte;
}

// These return indices into kTorchDtypes, or kNoTorchDtype.
[[nodiscard]] constexpr std::uint8_t torch_dtype_named(std::string_view name) noexcept {
  for (std::size_t i = 0; i < kTorchDtypes.size(); ++i) {
    if (kTorchDtypes[i].name == name) return static_cast<std::uint8_t>(i);
  }
  return kNoTorchDtype;
}
[[nodiscard]] constexpr std::uint8_t torch_dtype_of_storage(std::string_view storage) noexcept {
  for (std::size_t i = 0; i < kTorchDtypes.size(); ++i) {
    if (!storage.empty() && kTorchDtypes[i].storage == storage) return static_cast<std::uint8_t>(i);
  }
  return kNoTorchDtype;
}
// The dtype of a tensor class: FloatTensor is the tensor of a FloatStorage.
[[nodiscard]] constexpr std::uint8_t torch_dtype_of_tensor(std::string_view tensor) noexcept {
  constexpr std::string_view kTensor = "Tensor";
  constexpr std::string_view kStorage = "Storage";
  for (std::size_t i = 0; tensor.ends_with(kTensor) && i < kTorchDtypes.size(); ++i) {
    const std::string_view storage = kTorchDtypes[i].storage;
    if (storage.empty()) continue;
    const std::string_view element = storage.substr(0, storage.size() - kStorage.size());
    if (tensor.substr(0, tensor.size() - kTensor.size()) == element)
      return static_cast<std::uint8_t>(i);
  }
  return kNoTorchDtype;
}

}  // namespace flatbed::pth
