// Checks whether a tree's statements about a tensor fit the tensor that the file stores (spec T5,
// T6 and the numpy types of T2). Pure functions, thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "flatbed/tensor.hpp"
#include "flatbed/value.hpp"

namespace flatbed {

// T6: whether dtype, shape and stride fit the stored dtype and shape.
[[nodiscard]] bool attributes_fit(const TensorAttributes& attributes, const TensorInfo& stored);

// A numpy dtype.str such as "<f8": byte order, kind, size. Only what numpy itself writes (spec T6).
struct NumpyType {
  char kind = 0;             // one of b i u f c S U V M m
  std::uint64_t nbytes = 0;  // of an item
};
[[nodiscard]] std::optional<NumpyType> parse_numpy_type(std::string_view typestr);

// Numeric types are stored as themselves, c16 as pairs of F64, and all others as U8 with the item
// size as the last dimension.
[[nodiscard]] bool array_fits(const NumpyType& type, const TensorInfo& stored);

}  // namespace flatbed
