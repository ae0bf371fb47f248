// GPUs as devices for flatbed.h: part of the component flatbed_cuda, which finds the NVIDIA driver
// at run time and needs nothing else of CUDA. What holds for flatbed.h holds here.
//
//   flatbed_device* gpu = NULL;
//   if (flatbed_device_cuda(0, NULL, &gpu, &error) != 0) return fail(error.message);
//   transfer.device = gpu;  // of flatbed_plan_add()
//
// Every CUDA call is made on a thread of flatbed's own, so the caller's current device and last
// CUDA error do not change.
#ifndef FLATBED_FLATBED_CUDA_H
#define FLATBED_FLATBED_CUDA_H

#include "flatbed/flatbed.h"

#ifdef __cplusplus
extern "C" {
#endif

// Lists the GPUs that this process can use, in the order of their ordinals; creates no context.
// `device` is called for each, and borrows the name for the call; unknown numbers become cancelled.
// Thread-safe. Errors: device_unavailable (no driver, too old a driver, no GPU), device_error.
FLATBED_API int32_t flatbed_cuda_devices(
    int32_t (*device)(void* context, int32_t ordinal, flatbed_string name, uint64_t memory_nbytes,
                      int32_t compute_major, int32_t compute_minor),
    void* context, flatbed_error* error);

// A GPU, usable from any thread. Its destinations may be any memory of that GPU. `stream` is the
// caller's cudaStream_t, to which copies are queued, and outlives the device; NULL: one of the
// device's own. The legacy default stream is not allowed. Free *out with flatbed_device_free().
// Errors: device_unavailable (also if there is no such GPU), device_error, resource_exhausted.
FLATBED_API int32_t flatbed_device_cuda(int32_t ordinal, void* stream, flatbed_device** out,
                                        flatbed_error* error);

#ifdef __cplusplus
}  // extern "C"
#endif

#endif  // FLATBED_FLATBED_CUDA_H
