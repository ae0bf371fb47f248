// TorchForm: torch's view of a tensor that is stored by the rules of spec T6. Inverse of reading a
// .pth. Pure functions.
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
  std::uint64_t nbytes = 0;  // consistent with dtype and shape
};

struct TorchForm {
  std::uint8_t dtype = kNoTorchDtype;  // into kTorchDtypes
  std::vector<std::uint64_t> sizes;
  std::vector<std::uint64_t> strides;  // C order
  std::uint64_t numel = 0;
};

// Errors: not_in_torch (no torch dtype is stored this way; a shape that does not fit). They do not
// name the place.
[[nodiscard]] Result<TorchForm> torch_form(const StoredTensor& stored,
                                           const TensorAttributes& attributes);

}  // namespace flatbed::pth
