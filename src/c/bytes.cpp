// Bytes of tensors, in flatbed.h: read, views and the memory behind them.
#include "c/checkpoints.hpp"
#include "c/guard.hpp"

namespace flatbed::c {

static_assert(static_cast<int>(Verify::yes) == FLATBED_VERIFY_YES &&
              static_cast<int>(Verify::no) == FLATBED_VERIFY_NO);

}  // namespace flatbed::c

using flatbed::Result;
using flatbed::TensorInfo;
using flatbed::Verify;
using flatbed::c::guarded;
using flatbed::c::tensor_at;

int32_t flatbed_read(const flatbed_checkpoint* checkpoint, uint64_t tensor, uint64_t offset,
                     void* out, uint64_t nbytes, uint32_t verify, flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_ASSIGN(const TensorInfo info, tensor_at(checkpoint, tensor, "tensor"));
    FLATBED_TRY(flatbed::c::check_bytes(out, nbytes, "out"));
    FLATBED_ASSIGN(const Verify check, flatbed::c::read_enum<Verify>(verify, 2, "verify"));
    return checkpoint->checkpoint.read(info, offset, {static_cast<std::byte*>(out), nbytes}, check);
  });
}

int32_t flatbed_view(const flatbed_checkpoint* checkpoint, uint64_t tensor, const void** data,
                     uint64_t* nbytes, flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    if (data == nullptr) return flatbed::c::null_argument("data");
    if (nbytes == nullptr) return flatbed::c::null_argument("nbytes");
    FLATBED_ASSIGN(const TensorInfo info, tensor_at(checkpoint, tensor, "tensor"));
    FLATBED_ASSIGN(const flatbed::TensorView view, checkpoint->checkpoint.view(info));
    *data = view.bytes.data();
    *nbytes = view.bytes.size();
    return {};
  });
}

int32_t flatbed_prefetch(const flatbed_checkpoint* checkpoint, uint64_t tensor, uint64_t offset,
                         uint64_t nbytes, flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_ASSIGN(const TensorInfo info, tensor_at(checkpoint, tensor, "tensor"));
    return checkpoint->checkpoint.prefetch(info, offset, nbytes);
  });
}

int32_t flatbed_release(const flatbed_checkpoint* checkpoint, uint64_t tensor, uint64_t offset,
                        uint64_t nbytes, flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_ASSIGN(const TensorInfo info, tensor_at(checkpoint, tensor, "tensor"));
    return checkpoint->checkpoint.release(info, offset, nbytes);
  });
}

int32_t flatbed_lock(const flatbed_checkpoint* checkpoint, uint64_t tensor, uint64_t offset,
                     uint64_t nbytes, flatbed_page_lock** out, flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(flatbed::c::clear_out(out));
    FLATBED_ASSIGN(const TensorInfo info, tensor_at(checkpoint, tensor, "tensor"));
    FLATBED_ASSIGN(flatbed::PageLock lock, checkpoint->checkpoint.lock(info, offset, nbytes));
    *out = std::make_unique<flatbed_page_lock>(std::move(lock)).release();
    return {};
  });
}

void flatbed_page_lock_free(flatbed_page_lock* lock) { flatbed::c::free_handle(lock); }
