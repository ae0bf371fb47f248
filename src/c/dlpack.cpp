// DLPack, in flatbed.h: tensors as frameworks take them over.
#include "flatbed/dlpack.hpp"

#include "base/str_cat.hpp"
#include "c/checkpoints.hpp"
#include "c/guard.hpp"
#include "flatbed/private_view.hpp"

namespace flatbed::c {

namespace {

Result<void> give_export(const DlpackMemory& memory, std::uint64_t flags,
                         DLManagedTensorVersioned** out) {
  FLATBED_ASSIGN(*out, export_dlpack(memory, flags));
  return {};
}

Result<void> give_export(const DlpackMemory& memory, std::uint64_t, DLManagedTensor** out) {
  FLATBED_ASSIGN(*out, export_dlpack_legacy(memory));
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
  return give_export({info.dtype, info.shape, bytes, owner}, kDlpackIsCopied, out);
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
  return give_export({dtype, shape, bytes, buffer->owned, placed.device_type, placed.device_id}, 0,
                     out);
}

struct Place {
  std::int32_t device_type;
  std::int32_t device_id;
};

template <typename Managed>
Result<void> export_loaded(const flatbed_loaded* loaded, std::uint64_t index, Place place,
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
  return give_export({tensor.dtype,
                      tensor.shape,
                      {tensor.data, tensor.nbytes},
                      loaded->owned,
                      place.device_type,
                      place.device_id},
                     0, out);
}

}  // namespace

}  // namespace flatbed::c

using flatbed::Result;
using flatbed::c::guarded;

int32_t flatbed_view_dlpack(const flatbed_checkpoint* checkpoint, uint64_t tensor,
                            struct DLManagedTensorVersioned** out, flatbed_error* error) {
  return guarded(error, [&]() { return flatbed::c::export_tensor(checkpoint, tensor, out); });
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
