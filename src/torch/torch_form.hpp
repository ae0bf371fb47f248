// TorchForm: how torch sees a tensor that is stored by the rules of spec T6; the inverse of what
// reading a .pth does. Pure functions.
#pragma once

#include <cstdint>
#include <vector>

#include "flatbed/result.hpp"
#include "flatbed/tensor.hpp"
#include "flatbed/value.hpp"
#include "torch/torch_dtype.hpp"

namespace flatbed::pth {

struct StoredTensor {
  Dtype dtype = Dtype::u8;
  ShapeView shape;
  std::uint64_t nbytes = 0;  // fits dtype and shape
};

struct TorchForm {
  std::uint8_t dtype = kNoTorchDtype;  // into kTorchDtypes
  std::vector<std::uint64_t> sizes;
  std::vector<std::uint64_t> strides;  // C order
  std::uint64_t numel = 0;
};

// Errors: not_in_torch (no torch dtype is stored so; a shape that does not fit), without place.
[[nodiscard]] Result<TorchForm> torch_form(const StoredTensor& stored,
                                           const TensorAttributes& attributes);

}  // namespace flatbed::pth
