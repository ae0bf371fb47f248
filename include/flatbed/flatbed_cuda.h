// GPUs as devices for flatbed.h: part of the component flatbed_cuda, which finds the NVIDIA driver
// at run time and needs nothing else of CUDA. What holds for flatbed.h holds here.
//
//   flatbed_device* gpu = NULL;
//   if (flatbed_device_cuda(0, NULL, &gpu, &error) != 0) return fail(error.message);
//   transfer.device = gpu;  // of flatbed_plan_add()
//
// CUDA calls are made on threads of flatbed's own, so the caller's current device and last CUDA
// error do not change. Those threads are in the relaxed capture mode: a load spoils no graph that
// the caller captures meanwhile. Only what concerns the calling thread's own default stream
// (FLATBED_CUDA_STREAM_PER_THREAD) is called on it, and leaves its state as it was.
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

// The same with all that is known of each GPU. What `info` points to is borrowed for the call.
typedef struct flatbed_cuda_device_info {
  uint64_t struct_size;
  flatbed_string name;
  flatbed_string pci_bus_id;  // "0000:3B:00.0"
  uint8_t uuid[16];           // as in "GPU-..." of nvidia-smi
  uint64_t memory_nbytes;
  uint64_t free_nbytes;  // of memory_nbytes; 0 where it was not asked for
  int32_t ordinal;
  int32_t compute_major;
  int32_t compute_minor;
  int32_t numa_node;  // of the host, next to the GPU; -1: unknown, or there is one
} flatbed_cuda_device_info;

// `ask_free` of 1 asks how much memory is free, which creates the primary context of every GPU that
// has none: that takes time, and hundreds of MiB of the GPU until the process ends. Errors: as
// above, and invalid_argument.
FLATBED_API int32_t flatbed_cuda_device_infos(
    uint32_t ask_free, int32_t (*device)(void* context, const flatbed_cuda_device_info* info),
    void* context, flatbed_error* error);

// A GPU, usable from any thread. Its destinations may be any memory of that GPU, and, where it uses
// the host's page tables, any of the host's. `stream` is a cudaStream_t that the caller created, to
// which copies are queued, and outlives the device; NULL: one of the device's own (and not the
// caller's default stream, which no copies are queued to; see flatbed_device_cuda_with()). Free
// *out with flatbed_device_free().
// Errors: device_unavailable (also if there is no such GPU), device_error, resource_exhausted,
// stream_capturing.
FLATBED_API int32_t flatbed_device_cuda(int32_t ordinal, void* stream, flatbed_device** out,
                                        flatbed_error* error);

// The kinds of a caller's stream. A NULL handle is none: to CUDA it is the legacy default stream,
// or the per-thread one where the caller was compiled for that. These say which.
enum {
  FLATBED_CUDA_STREAM_NONE = 0,
  FLATBED_CUDA_STREAM_CREATED = 1,  // by the caller, of this GPU: `handle`
  FLATBED_CUDA_STREAM_LEGACY = 2,   // stream 0 of most programs, torch's default stream too
  // The default stream of the thread that calls flatbed_load(), where the GPU must be current.
  FLATBED_CUDA_STREAM_PER_THREAD = 3
};

typedef struct flatbed_cuda_stream {
  uint32_t kind;  // FLATBED_CUDA_STREAM_*
  uint32_t reserved;
  void* handle;  // a cudaStream_t; NULL unless it was created
} flatbed_cuda_stream;

// All streams outlive the device. None may be captured into a graph when a load begins or a group
// is ready, and the legacy stream not be one of them while any blocking stream of its GPU is
// captured (stream_capturing). cuda.hpp has a drawing of the order.
typedef struct flatbed_cuda_options {
  uint64_t struct_size;
  // Copies are queued to it. It was created. Default: a stream of the device's own.
  flatbed_cuda_stream stream;
  // Each load's copies come after what this stream holds when flatbed_load() is called. Default:
  // they wait for nothing, so that nobody may use the destinations any more.
  flatbed_cuda_stream order_after;
  // This stream waits for each group's copies before the `ready` of flatbed_load_options is called.
  flatbed_cuda_stream order_before;
} flatbed_cuda_options;

// flatbed_device_cuda() with options. Errors: those, and invalid_argument.
FLATBED_API int32_t flatbed_device_cuda_with(int32_t ordinal, const flatbed_cuda_options* options,
                                             flatbed_device** out, flatbed_error* error);

#ifdef __cplusplus
}  // extern "C"
#endif

#endif  // FLATBED_FLATBED_CUDA_H
