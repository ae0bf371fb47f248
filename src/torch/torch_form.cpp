#include "torch/torch_form.hpp"

#include <algorithm>
#include <string_view>

#include "base/checked.hpp"
#include "base/str_cat.hpp"

namespace flatbed::pth {

namespace {

// The dtype implied by the stored dtype, or the one that the tree names.
std::uint8_t find_dtype(const StoredTensor& stored, const TensorAttributes& attributes) {
  if (!attributes.dtype.empty()) return torch_dtype_named(attributes.dtype);
  for (std::size_t i = 0; i < kTorchDtypes.size(); ++i) {
    if (kTorchDtypes[i].dtype == stored.dtype && !kTorchDtypes[i].named)
      return static_cast<std::uint8_t>(i);
  }
  return kNoTorchDtype;
}

// Elements that share a byte, for the two types whose elements (not bytes) torch counts.
std::uint64_t elements_per_byte(const TorchDtype& dtype) {
  return dtype.name == "quint4x2" ? 2 : dtype.name == "quint2x4" ? 4 : 1;
}

// The size of all elements in torch's own bytes: each row is rounded up to whole bytes.
std::optional<std::uint64_t> nbytes_of(const TorchForm& form) {
  const TorchDtype& dtype = kTorchDtypes[form.dtype];
  const std::uint64_t together = elements_per_byte(dtype);
  if (together == 1 || form.numel == 0) return checked_mul(form.numel, dtype.nbytes);
  const std::uint64_t last = form.sizes.empty() ? 1 : form.sizes.back();
  return form.numel / last * (last / together + (last % together == 0 ? 0 : 1));
}

template <typename... Parts>
Error misfit(const StoredTensor& stored, const Parts&... parts) {
  return make_error(ErrorCode::not_in_torch, "a tensor ", name(stored.dtype), " ",
                    shape_text(stored.shape.data(), stored.shape.size()), " ", parts...);
}

// The tensor's own sizes, computed from the stored ones.
Result<std::vector<std::uint64_t>> own_sizes(const StoredTensor& stored,
                                             const TensorAttributes& attributes,
                                             const TorchDtype& dtype) {
  if (attributes.shape) return *attributes.shape;
  std::vector<std::uint64_t> sizes(stored.shape.begin(), stored.shape.end());
  if (dtype.stored_as == StoredAs::pair) {
    if (sizes.empty() || sizes.back() != 2)
      return misfit(stored, "cannot be torch.", dtype.name, ", which ends in pairs");
    sizes.pop_back();
  }
  if (stored.dtype == Dtype::f4) {
    if (sizes.empty() || sizes.back() % 2 != 0)
      return misfit(stored, "cannot be torch.", dtype.name, ", which counts pairs of elements");
    sizes.back() /= 2;
  }
  return sizes;
}

Result<void> set_strides(const StoredTensor& stored, TorchForm& form) {
  std::optional<std::uint64_t> stride = 1;
  std::optional<std::uint64_t> numel = 1;
  form.strides.resize(form.sizes.size());
  for (std::size_t i = form.sizes.size(); i-- > 0;) {
    form.strides[i] = *stride;
    stride = checked_mul(*stride, std::max<std::uint64_t>(form.sizes[i], 1));
    numel = checked_mul(*numel, form.sizes[i]);
    if (!stride || !numel || *stride > INT64_MAX)
      return misfit(stored, "has more elements than torch can count");
  }
  form.numel = *numel;
  return {};
}

}  // namespace

Result<TorchForm> torch_form(const StoredTensor& stored, const TensorAttributes& attributes) {
  TorchForm form;
  form.dtype = find_dtype(stored, attributes);
  if (form.dtype == kNoTorchDtype) {
    return misfit(stored, attributes.dtype.empty()
                              ? "has no dtype in torch"
                              : str_cat("is of the unknown dtype torch.", attributes.dtype));
  }
  const TorchDtype& dtype = kTorchDtypes[form.dtype];
  FLATBED_ASSIGN(form.sizes, own_sizes(stored, attributes, dtype));
  FLATBED_TRY(set_strides(stored, form));
  if (nbytes_of(form) != stored.nbytes)
    return misfit(stored, "cannot be torch.", dtype.name, " ",
                  shape_text(form.sizes.data(), form.sizes.size()), ": it has ", stored.nbytes,
                  " bytes");
  return form;
}

}  // namespace flatbed::pth
