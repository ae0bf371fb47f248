// DLPack, in flatbed.h: tensors as frameworks take them over.
#include <array>
#include <limits>

#include "base/str_cat.hpp"
#include "c/checkpoints.hpp"
#include "c/dlpack_types.hpp"
#include "c/guard.hpp"
#include "flatbed/private_view.hpp"

namespace flatbed::c {

namespace {

constexpr std::uint64_t kIsCopied = 2;  // the consumer is the only one who sees the memory

// In the order of Dtype. Codes: 0 int, 1 uint, 2 float, 4 bfloat, 5 complex, 6 bool, and from 7 on
// the floats of 8, 6 and 4 bits.
constexpr std::array kDlDtypes{
    DlDtype{6, 8, 1},   // boolean
    DlDtype{17, 4, 2},  // f4
    DlDtype{15, 6, 1},  // f6_e2m3
    DlDtype{16, 6, 1},  // f6_e3m2
    DlDtype{1, 8, 1},   // u8
    DlDtype{0, 8, 1},   // i8
    DlDtype{12, 8, 1},  // f8_e5m2
    DlDtype{10, 8, 1},  // f8_e4m3, torch's float8_e4m3fn
    DlDtype{14, 8, 1},  // f8_e8m0
    DlDtype{11, 8, 1},  // f8_e4m3fnuz
    DlDtype{13, 8, 1},  // f8_e5m2fnuz
    DlDtype{0, 16, 1},  // i16
    DlDtype{1, 16, 1},  // u16
    DlDtype{2, 16, 1},  // f16
    DlDtype{4, 16, 1},  // bf16
    DlDtype{0, 32, 1},  // i32
    DlDtype{1, 32, 1},  // u32
    DlDtype{2, 32, 1},  // f32
    DlDtype{5, 64, 1},  // c64
    DlDtype{2, 64, 1},  // f64
    DlDtype{0, 64, 1},  // i64
    DlDtype{1, 64, 1},  // u64
};
static_assert(kDlDtypes.size() == kDtypes.size());

// What an export shows, and what it keeps.
struct Shown {
  Dtype dtype = Dtype::u8;
  ShapeView shape;
  DlDevice device;
  std::span<std::byte> bytes;
  std::shared_ptr<const void> owner;
};

// An export with everything that its struct points to. The deleter ends it.
template <typename Managed>
struct Export {
  Managed managed;
  std::shared_ptr<const void> owner;
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides;

  static void end(Managed* self) {
    if (self != nullptr) const std::unique_ptr<Export> last(static_cast<Export*>(self->manager));
  }
};

Result<std::vector<std::int64_t>> dl_shape(const Shown& shown) {
  std::vector<std::int64_t> shape;
  for (const std::uint64_t size : shown.shape) {
    if (size > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
      return make_error(ErrorCode::size_overflow, "a dimension of ", size, " does not fit DLPack");
    }
    shape.push_back(static_cast<std::int64_t>(size));
  }
  const std::uint16_t lanes = kDlDtypes[static_cast<std::size_t>(shown.dtype)].lanes;
  if (lanes == 1) return shape;
  if (shape.empty() || shape.back() % lanes != 0) {
    return make_error(ErrorCode::invalid_argument, name(shown.dtype), " ",
                      shape_text(shown.shape.data(), shown.shape.size()),
                      ": DLPack has pairs of these, expected a last dimension that is even");
  }
  shape.back() /= lanes;
  return shape;
}

// Of C order. Those of tensors without elements say nothing, so that they need not fit.
std::vector<std::int64_t> dl_strides(const std::vector<std::int64_t>& shape) {
  std::vector<std::int64_t> strides(shape.size());
  std::int64_t stride = 1;
  for (std::size_t i = shape.size(); i-- > 0;) {
    strides[i] = stride;
    if (__builtin_mul_overflow(stride, shape[i], &stride)) stride = 0;
  }
  return strides;
}

template <typename Managed>
Result<void> give_export(const Shown& shown, Managed** out) {
  FLATBED_ASSIGN(std::vector<std::int64_t> shape, dl_shape(shown));
  auto made = std::make_unique<Export<Managed>>();
  made->strides = dl_strides(shape);
  made->shape = std::move(shape);
  made->owner = shown.owner;
  DlTensor& tensor = made->managed.tensor;
  tensor.data = shown.bytes.empty() ? nullptr : shown.bytes.data();
  tensor.device = shown.device;
  tensor.ndim = static_cast<std::int32_t>(made->shape.size());
  tensor.dtype = kDlDtypes[static_cast<std::size_t>(shown.dtype)];
  tensor.shape = made->shape.data();
  tensor.strides = made->strides.data();
  made->managed.manager = made.get();
  made->managed.deleter = &Export<Managed>::end;
  *out = &made.release()->managed;
  return {};
}

template <typename Managed>
Result<void> export_tensor(const flatbed_checkpoint* checkpoint, std::uint64_t tensor,
                           Managed** out) {
  FLATBED_TRY(clear_out(out));
  FLATBED_ASSIGN(const TensorInfo info, tensor_at(checkpoint, tensor, "tensor"));
  FLATBED_ASSIGN(PrivateView view, PrivateView::make(checkpoint->checkpoint, info));
  const std::span<std::byte> bytes = view.bytes();
  const auto owner = std::make_shared<const PrivateView>(std::move(view));
  return give_export({info.dtype, info.shape, {1, 0}, bytes, owner}, out);
}

// The bytes that a tensor takes in a buffer. Errors: size_overflow.
Result<std::uint64_t> nbytes_of(Dtype dtype, ShapeView shape) {
  std::uint64_t bits_left = bits(dtype);
  for (const std::uint64_t size : shape) {
    if (!__builtin_mul_overflow(bits_left, size, &bits_left)) continue;
    return make_error(ErrorCode::size_overflow, name(dtype), " ",
                      shape_text(shape.data(), shape.size()), " does not fit 64 bits");
  }
  return bits_left / 8 + (bits_left % 8 != 0 ? 1 : 0);
}

template <typename Managed>
Result<void> export_placed(const flatbed_buffer* buffer, const flatbed_placed_tensor* given,
                           Managed** out) {
  FLATBED_TRY(clear_out(out));
  FLATBED_TRY(check(buffer, "buffer"));
  FLATBED_ASSIGN(const flatbed_placed_tensor placed, read_struct(given, "tensor"));
  FLATBED_ASSIGN(const Dtype dtype, read_dtype(placed.dtype, "tensor.dtype"));
  FLATBED_TRY(check_bytes(placed.shape, placed.rank, "tensor.shape"));
  const ShapeView shape(placed.shape, placed.rank);
  FLATBED_ASSIGN(const std::uint64_t nbytes, nbytes_of(dtype, shape));
  const std::uint64_t size = buffer->owned->buffer.nbytes();
  if (nbytes > size || placed.offset > size - nbytes) {
    return make_error(ErrorCode::buffer_too_small, "tensor of ", nbytes, " bytes at ",
                      placed.offset, ": the buffer has ", size);
  }
  const std::span<std::byte> bytes(buffer->owned->buffer.data() + placed.offset, nbytes);
  return give_export({dtype, shape, {placed.device_type, placed.device_id}, bytes, buffer->owned},
                     out);
}

template <typename Managed>
Result<void> export_loaded(const flatbed_loaded* loaded, std::uint64_t index, DlDevice device,
                           Managed** out) {
  FLATBED_TRY(clear_out(out));
  FLATBED_TRY(check(loaded, "loaded"));
  if (loaded->owned == nullptr) {
    return make_error(ErrorCode::invalid_argument,
                      "argument 'loaded': found one that is still being loaded, expected one that "
                      "flatbed_load_all() has given");
  }
  const std::span<const LoadedTensor> tensors = loaded->owned->tensors.tensors();
  if (index >= tensors.size()) return index_error(index, tensors.size(), "index");
  const LoadedTensor& tensor = tensors[index];
  return give_export(
      {tensor.dtype, tensor.shape, device, {tensor.data, tensor.nbytes}, loaded->owned}, out);
}

}  // namespace

}  // namespace flatbed::c

using flatbed::Result;
using flatbed::c::guarded;

int32_t flatbed_view_dlpack(const flatbed_checkpoint* checkpoint, uint64_t tensor,
                            struct DLManagedTensorVersioned** out, flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(flatbed::c::export_tensor(checkpoint, tensor, out));
    (*out)->flags = flatbed::c::kIsCopied;
    return {};
  });
}

int32_t flatbed_view_dlpack_legacy(const flatbed_checkpoint* checkpoint, uint64_t tensor,
                                   struct DLManagedTensor** out, flatbed_error* error) {
  return guarded(error, [&]() { return flatbed::c::export_tensor(checkpoint, tensor, out); });
}

int32_t flatbed_loaded_dlpack(const flatbed_loaded* loaded, uint64_t index, int32_t device_type,
                              int32_t device_id, struct DLManagedTensorVersioned** out,
                              flatbed_error* error) {
  return guarded(error, [&]() {
    return flatbed::c::export_loaded(loaded, index, {device_type, device_id}, out);
  });
}

int32_t flatbed_loaded_dlpack_legacy(const flatbed_loaded* loaded, uint64_t index,
                                     int32_t device_type, int32_t device_id,
                                     struct DLManagedTensor** out, flatbed_error* error) {
  return guarded(error, [&]() {
    return flatbed::c::export_loaded(loaded, index, {device_type, device_id}, out);
  });
}

int32_t flatbed_buffer_dlpack_legacy(const flatbed_buffer* buffer,
                                     const flatbed_placed_tensor* tensor,
                                     struct DLManagedTensor** out, flatbed_error* error) {
  return guarded(error, [&]() { return flatbed::c::export_placed(buffer, tensor, out); });
}

int32_t flatbed_buffer_dlpack(const flatbed_buffer* buffer, const flatbed_placed_tensor* tensor,
                              struct DLManagedTensorVersioned** out, flatbed_error* error) {
  return guarded(error, [&]() { return flatbed::c::export_placed(buffer, tensor, out); });
}
