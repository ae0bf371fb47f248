// The fake's calls: the entries of CudaApi and one more.
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <utility>

#include "support/fake_cuda_state.hpp"

namespace flatbed::fake_cuda {
namespace {

// Every call that can fail: counts it, lets faults happen, and keeps the thread's last error. The
// body gets the state and the verdict, and runs unless the call fails at once.
enum class Release { no, yes };  // yes: the body runs even so, to see what is given back

template <typename Body>
cudaError_t enter(Call call, const Body& body, Release release = Release::no) {
  State* const state = current();
  if (state == nullptr) return cudaErrorCudartUnloading;
  const std::uint64_t now = state->options.now_ns ? state->options.now_ns() : 0;
  const Quiet quiet;
  const std::lock_guard lock(state->mutex);
  state->now_ns = std::max(state->now_ns, now);
  const Verdict verdict = state->begin_call(call);
  if (state->options.schedule == FakeSchedule::random) state->run_random();
  cudaError_t status = verdict.code;
  if (!verdict.fails_now() || (release == Release::yes && !state->unloaded)) {
    status = body(*state, verdict);
  }
  if (status != cudaSuccess) thread_state(*state).last_error = status;
  return status;
}

void pay_for_submission() {
  const State* const state = current();
  if (state == nullptr || state->options.submit_ns == 0 || !state->options.sleep_ns) return;
  state->options.sleep_ns(state->options.submit_ns);
}

cudaError_t get_device_count(int* count) {
  return enter(Call::GetDeviceCount, [&](State& state, const Verdict&) {
    *count = state.options.devices;
    return cudaSuccess;
  });
}

cudaError_t get_device_properties(cudaDeviceProp* properties, int device) {
  return enter(Call::GetDeviceProperties, [&](State& state, const Verdict&) {
    if (device < 0 || device >= state.options.devices) return cudaErrorInvalidDevice;
    *properties = {};
    std::strcpy(properties->name.data(), "flatbed's fake");
    properties->uuid.fill(std::byte{0xFA});
    properties->uuid.back() = static_cast<std::byte>(device);
    properties->totalGlobalMem = state.options.device_limit_nbytes;
    properties->major = 9;
    return cudaSuccess;
  });
}

// A GPU in the PCI slot of its number.
cudaError_t device_get_attribute(int* value, cudaDeviceAttr attribute, int device) {
  return enter(Call::DeviceGetAttribute, [&](State& state, const Verdict&) {
    if (device < 0 || device >= state.options.devices) return cudaErrorInvalidDevice;
    const bool host_pages = state.options.uses_host_pages;
    *value = 0;
    if (attribute == cudaDevAttrComputeCapabilityMajor) *value = 9;
    if (attribute == cudaDevAttrPciBusId) *value = device;
    if (attribute == cudaDevAttrHostNumaId) *value = -1;
    if (attribute == cudaDevAttrManagedMemory) *value = 1;
    if (attribute == cudaDevAttrConcurrentManagedAccess) *value = 1;
    if (attribute == cudaDevAttrPageableMemoryAccess) *value = host_pages ? 1 : 0;
    if (attribute == cudaDevAttrPageableMemoryAccessUsesHostPageTables) *value = host_pages ? 1 : 0;
    return cudaSuccess;
  });
}

cudaError_t device_get_pci_bus_id(char* id, int size, int device) {
  return enter(Call::DeviceGetPCIBusId, [&](State& state, const Verdict&) {
    if (device < 0 || device >= state.options.devices) return cudaErrorInvalidDevice;
    const int length = std::snprintf(id, static_cast<std::size_t>(size), "0000:%02X:00.0",
                                     0xA0U + static_cast<unsigned>(device));
    return length < size ? cudaSuccess : cudaErrorInvalidValue;
  });
}

cudaError_t mem_get_info(std::size_t* free, std::size_t* total) {
  return enter(Call::MemGetInfo, [&](State& state, const Verdict&) {
    *total = state.options.device_limit_nbytes;
    *free = *total - state.device_nbytes[static_cast<std::size_t>(thread_state(state).device)];
    return cudaSuccess;
  });
}

cudaError_t set_device(int device) {
  return enter(Call::SetDevice, [&](State& state, const Verdict&) {
    if (device < 0 || device >= state.options.devices) return cudaErrorInvalidDevice;
    if (thread_state(state).is_engines) {
      state.add(Entry::misuse, text("cudaSetDevice(", device,
                                    ") on a thread of the engine's, which "
                                    "was on device ",
                                    thread_state(state).device));
    }
    thread_state(state).device = device;
    thread_state(state).device_set = true;
    return cudaSuccess;
  });
}

cudaError_t malloc_device(void** out, size_t nbytes) {
  return enter(Call::Malloc, [&](State& state, const Verdict&) {
    return state.allocate_device(out, nbytes, thread_state(state).device, MemoryKind::device);
  });
}

cudaError_t free_device(void* memory) {
  return enter(
      Call::Free,
      [&](State& state, const Verdict& verdict) { return state.release(memory, "Free", verdict); },
      Release::yes);
}

cudaError_t host_alloc(void** out, size_t nbytes, unsigned) {
  return enter(Call::HostAlloc,
               [&](State& state, const Verdict&) { return state.allocate_pinned(out, nbytes); });
}

cudaError_t free_host(void* memory) {
  return enter(
      Call::FreeHost,
      [&](State& state, const Verdict& verdict) {
        return state.release(memory, "FreeHost", verdict);
      },
      Release::yes);
}

cudaError_t host_register(void* memory, size_t nbytes, unsigned) {
  return enter(Call::HostRegister,
               [&](State& state, const Verdict&) { return state.register_host(memory, nbytes); });
}

cudaError_t host_unregister(void* memory) {
  return enter(
      Call::HostUnregister,
      [&](State& state, const Verdict& verdict) {
        return state.release(memory, "HostUnregister", verdict);
      },
      Release::yes);
}

cudaError_t pointer_get_attributes(cudaPointerAttributes* out, const void* data) {
  return enter(Call::PointerGetAttributes, [&](State& state, const Verdict&) {
    *out = {};
    out->type = cudaMemoryTypeUnregistered;
    out->device = -2;
    out->hostPointer = const_cast<void*>(data);
    const Allocation* const block = state.find(data);
    if (block == nullptr || !block->live) return cudaSuccess;
    constexpr std::array kTypes{cudaMemoryTypeDevice, cudaMemoryTypeManaged, cudaMemoryTypeHost,
                                cudaMemoryTypeHost};
    out->type = kTypes[static_cast<std::size_t>(block->kind)];
    out->device = block->device;
    out->devicePointer = const_cast<void*>(data);
    if (block->kind == MemoryKind::device) out->hostPointer = nullptr;
    return cudaSuccess;
  });
}

cudaError_t stream_create_with_flags(cudaStream_t* out, unsigned flags) {
  return enter(Call::StreamCreateWithFlags, [&](State& state, const Verdict&) {
    if ((flags & cudaStreamNonBlocking) == 0) {
      state.add(Entry::misuse, "cudaStreamCreateWithFlags without cudaStreamNonBlocking");
    }
    Stream& stream = state.make_stream(thread_state(state).device, false);
    *out = reinterpret_cast<cudaStream_t>(&stream);
    return cudaSuccess;
  });
}

cudaError_t stream_destroy(cudaStream_t handle) {
  return enter(
      Call::StreamDestroy,
      [&](State& state, const Verdict& verdict) {
        Stream* const stream = state.find_stream(handle, "StreamDestroy");
        if (stream == nullptr) return cudaErrorInvalidResourceHandle;
        if (!stream->unseen.empty()) {
          state.add(Entry::note, text("stream ", stream->number, " was destroyed with copy ",
                                      stream->unseen.front()->number, " under way"));
        }
        stream->release_failed = verdict.fails_now();
        stream->live = verdict.fails_now();
        return verdict.fails_now() ? verdict.code : cudaSuccess;
      },
      Release::yes);
}

cudaError_t stream_query(cudaStream_t handle) {
  return enter(Call::StreamQuery, [&](State& state, const Verdict& verdict) {
    Stream* const stream = state.find_stream(handle, "StreamQuery");
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    const cudaError_t wrong = state.use_uncaptured(*stream, "StreamQuery");
    if (wrong != cudaSuccess) return wrong;
    if (verdict.never_ready()) stream->never_ready = true;
    return state.query(*stream);
  });
}

cudaError_t memcpy_async(void* to, const void* from, size_t nbytes, cudaMemcpyKind kind,
                         cudaStream_t stream) {
  pay_for_submission();
  return enter(Call::MemcpyAsync, [&](State& state, const Verdict&) {
    return state.submit_copy({.to = static_cast<std::byte*>(to),
                              .from = static_cast<const std::byte*>(from),
                              .width = nbytes,
                              .height = 1},
                             kind, stream);
  });
}

cudaError_t memcpy_2d_async(void* to, size_t to_pitch, const void* from, size_t from_pitch,
                            size_t width, size_t height, cudaMemcpyKind kind, cudaStream_t stream) {
  pay_for_submission();
  return enter(Call::Memcpy2DAsync, [&](State& state, const Verdict&) {
    return state.submit_copy({.to = static_cast<std::byte*>(to),
                              .from = static_cast<const std::byte*>(from),
                              .to_pitch = to_pitch,
                              .from_pitch = from_pitch,
                              .width = width,
                              .height = height},
                             kind, stream);
  });
}

// CUDA orders the copies of a batch in no way.
cudaError_t memcpy_batch_async(void* const* to, const void* const* from, const size_t* nbytes,
                               size_t count, cudaStream_t stream) {
  pay_for_submission();
  return enter(Call::MemcpyBatchAsync, [&](State& state, const Verdict&) {
    if (!state.options.batches_supported) return cudaErrorNotSupported;
    if (count == 0) state.add(Entry::misuse, "cudaMemcpyBatchAsync of no copies");
    for (std::size_t i = count; i-- > 0;) {
      const cudaError_t status = state.submit_copy({.to = static_cast<std::byte*>(to[i]),
                                                    .from = static_cast<const std::byte*>(from[i]),
                                                    .width = nbytes[i],
                                                    .height = 1},
                                                   cudaMemcpyDefault, stream);
      if (status != cudaSuccess) return status;
    }
    return count == 0 ? cudaErrorInvalidValue : cudaSuccess;
  });
}

cudaError_t event_create_with_flags(cudaEvent_t* out, unsigned) {
  return enter(Call::EventCreateWithFlags, [&](State& state, const Verdict&) {
    *out = reinterpret_cast<cudaEvent_t>(&state.make_event(thread_state(state).device, false));
    return cudaSuccess;
  });
}

cudaError_t event_destroy(cudaEvent_t handle) {
  return enter(
      Call::EventDestroy,
      [&](State& state, const Verdict& verdict) {
        Event* const event = state.find_event(handle, "EventDestroy");
        if (event == nullptr) return cudaErrorInvalidResourceHandle;
        if (event->capture != nullptr && state.any_unseen(event->capture->before)) {
          state.add(Entry::note, text("event ", event->number,
                                      " was destroyed while what it recorded is under way"));
        }
        event->release_failed = verdict.fails_now();
        event->live = verdict.fails_now();
        return verdict.fails_now() ? verdict.code : cudaSuccess;
      },
      Release::yes);
}

cudaError_t event_record(cudaEvent_t event_handle, cudaStream_t stream_handle) {
  return enter(Call::EventRecord, [&](State& state, const Verdict&) {
    Event* const event = state.find_event(event_handle, "EventRecord");
    Stream* const stream = state.find_any_stream(stream_handle, "EventRecord");
    if (event == nullptr || stream == nullptr) return cudaErrorInvalidResourceHandle;
    const cudaError_t wrong = state.use_uncaptured(*stream, "EventRecord");
    if (wrong != cudaSuccess) return wrong;
    return state.record(*event, *stream);
  });
}

cudaError_t event_query(cudaEvent_t handle) {
  return enter(Call::EventQuery, [&](State& state, const Verdict& verdict) {
    Event* const event = state.find_event(handle, "EventQuery");
    if (event == nullptr) return cudaErrorInvalidResourceHandle;
    if (verdict.never_ready() && event->capture != nullptr) event->capture->stuck = true;
    return state.query(event->capture);
  });
}

cudaError_t event_synchronize(cudaEvent_t handle) {
  return enter(Call::EventSynchronize, [&](State& state, const Verdict&) {
    Event* const event = state.find_event(handle, "EventSynchronize");
    if (event == nullptr) return cudaErrorInvalidResourceHandle;
    if (event->capture == nullptr) return cudaSuccess;
    state.run_to(*event->capture->stream, event->capture->number);
    event->capture->not_ready_left = 0;
    return state.query(event->capture);
  });
}

cudaError_t stream_wait_event(cudaStream_t stream_handle, cudaEvent_t event_handle, unsigned) {
  return enter(Call::StreamWaitEvent, [&](State& state, const Verdict&) {
    Stream* const stream = state.find_any_stream(stream_handle, "StreamWaitEvent");
    Event* const event = state.find_event(event_handle, "StreamWaitEvent");
    if (event == nullptr || stream == nullptr) return cudaErrorInvalidResourceHandle;
    const cudaError_t wrong = state.use_uncaptured(*stream, "StreamWaitEvent");
    if (wrong != cudaSuccess) return wrong;
    state.wait(*stream, *event);
    return cudaSuccess;
  });
}

cudaError_t launch_host_func(cudaStream_t handle, cudaHostFn_t function, void* argument) {
  return enter(Call::LaunchHostFunc, [&](State& state, const Verdict&) {
    Stream* const stream = state.find_stream(handle, "LaunchHostFunc");
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    const cudaError_t wrong = state.use_uncaptured(*stream, "LaunchHostFunc");
    if (wrong != cudaSuccess) return wrong;
    state.enqueue(*stream, {.kind = Op::Kind::call, .function = function, .argument = argument});
    state.after_submit();
    return cudaSuccess;
  });
}

cudaError_t stream_is_capturing(cudaStream_t handle, cudaStreamCaptureStatus* out) {
  return enter(Call::StreamIsCapturing, [&](State& state, const Verdict&) {
    const Stream* const stream = state.find_any_stream(handle, "StreamIsCapturing");
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    return state.is_capturing(*stream, *out);
  });
}

cudaError_t thread_exchange_stream_capture_mode(cudaStreamCaptureMode* mode) {
  return enter(Call::ThreadExchangeStreamCaptureMode, [&](State& state, const Verdict&) {
    std::swap(*mode, thread_state(state).capture_mode);
    return cudaSuccess;
  });
}

// These two see and keep the thread's last error as CUDA does.
cudaError_t take_or_peek(Call call, bool take) {
  State* const state = current();
  if (state == nullptr) return cudaErrorCudartUnloading;
  const Quiet quiet;
  const std::lock_guard lock(state->mutex);
  if (const Verdict verdict = state->begin_call(call); verdict.fails_now()) return verdict.code;
  cudaError_t& last = thread_state(*state).last_error;
  const cudaError_t found = last;
  if (take) last = state->sticky;
  return found;
}
cudaError_t get_last_error() { return take_or_peek(Call::GetLastError, true); }
cudaError_t peek_at_last_error() { return take_or_peek(Call::PeekAtLastError, false); }

struct ErrorText {
  cudaError_t code;
  const char* name;
  const char* text;
};
#define FLATBED_FAKE_CUDA_ERROR(name, text) \
  { name, #name, text }
constexpr auto kErrors = std::to_array<ErrorText>({
    FLATBED_FAKE_CUDA_ERROR(cudaSuccess, "no error"),
    FLATBED_FAKE_CUDA_ERROR(cudaErrorInvalidValue, "invalid argument"),
    FLATBED_FAKE_CUDA_ERROR(cudaErrorMemoryAllocation, "out of memory"),
    FLATBED_FAKE_CUDA_ERROR(cudaErrorInitializationError, "initialization error"),
    FLATBED_FAKE_CUDA_ERROR(cudaErrorCudartUnloading, "driver shutting down"),
    FLATBED_FAKE_CUDA_ERROR(cudaErrorStubLibrary, "CUDA driver is a stub library"),
    FLATBED_FAKE_CUDA_ERROR(cudaErrorInsufficientDriver,
                            "CUDA driver version is insufficient for CUDA runtime version"),
    FLATBED_FAKE_CUDA_ERROR(cudaErrorNoDevice, "no CUDA-capable device is detected"),
    FLATBED_FAKE_CUDA_ERROR(cudaErrorInvalidDevice, "invalid device ordinal"),
    FLATBED_FAKE_CUDA_ERROR(cudaErrorInvalidResourceHandle, "invalid resource handle"),
    FLATBED_FAKE_CUDA_ERROR(cudaErrorNotReady, "device not ready"),
    FLATBED_FAKE_CUDA_ERROR(cudaErrorIllegalAddress, "an illegal memory access was encountered"),
    FLATBED_FAKE_CUDA_ERROR(cudaErrorLaunchFailure, "unspecified launch failure"),
    FLATBED_FAKE_CUDA_ERROR(cudaErrorHostMemoryAlreadyRegistered,
                            "part or all of the requested memory range is already mapped"),
    FLATBED_FAKE_CUDA_ERROR(cudaErrorHostMemoryNotRegistered,
                            "pointer does not correspond to a registered memory region"),
    FLATBED_FAKE_CUDA_ERROR(cudaErrorNotSupported, "operation not supported"),
    FLATBED_FAKE_CUDA_ERROR(cudaErrorStreamCaptureUnsupported,
                            "operation not permitted when stream is capturing"),
    FLATBED_FAKE_CUDA_ERROR(cudaErrorStreamCaptureImplicit,
                            "operation would make the legacy stream depend on a capturing blocking "
                            "stream"),
    FLATBED_FAKE_CUDA_ERROR(cudaErrorUnknown, "unknown error"),
});
#undef FLATBED_FAKE_CUDA_ERROR

const ErrorText* find_text(cudaError_t error) {
  for (const ErrorText& row : kErrors) {
    if (row.code == error) return &row;
  }
  return nullptr;
}

void count(Call call) {
  State* const state = current();
  if (state == nullptr) return;
  const Quiet quiet;
  const std::lock_guard lock(state->mutex);
  static_cast<void>(state->begin_call(call));
}

const char* get_error_name(cudaError_t error) {
  count(Call::GetErrorName);
  const ErrorText* const found = find_text(error);
  return found == nullptr ? "unrecognized error code" : found->name;
}

const char* get_error_string(cudaError_t error) {
  count(Call::GetErrorString);
  const ErrorText* const found = find_text(error);
  return found == nullptr ? "unrecognized error code" : found->text;
}

}  // namespace

cudaError_t stream_synchronize(cudaStream_t handle) {
  return enter(Call::StreamSynchronize, [&](State& state, const Verdict&) {
    Stream* const stream = state.find_stream(handle, "StreamSynchronize");
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    const cudaError_t wrong = state.use_uncaptured(*stream, "StreamSynchronize");
    if (wrong != cudaSuccess) return wrong;
    state.run_to(*stream, stream->last_number);
    stream->not_ready_left = 0;
    return state.query(*stream);
  });
}

const cuda::CudaApi& table() {
  static constexpr cuda::CudaApi kTable{
      .GetDeviceCount = get_device_count,
      .GetDeviceProperties = get_device_properties,
      .DeviceGetAttribute = device_get_attribute,
      .DeviceGetPCIBusId = device_get_pci_bus_id,
      .SetDevice = set_device,
      .MemGetInfo = mem_get_info,
      .Malloc = malloc_device,
      .Free = free_device,
      .HostAlloc = host_alloc,
      .FreeHost = free_host,
      .HostRegister = host_register,
      .HostUnregister = host_unregister,
      .PointerGetAttributes = pointer_get_attributes,
      .StreamCreateWithFlags = stream_create_with_flags,
      .StreamDestroy = stream_destroy,
      .StreamQuery = stream_query,
      .StreamWaitEvent = stream_wait_event,
      .StreamIsCapturing = stream_is_capturing,
      .ThreadExchangeStreamCaptureMode = thread_exchange_stream_capture_mode,
      .LaunchHostFunc = launch_host_func,
      .MemcpyAsync = memcpy_async,
      .Memcpy2DAsync = memcpy_2d_async,
      .MemcpyBatchAsync = memcpy_batch_async,
      .EventCreateWithFlags = event_create_with_flags,
      .EventDestroy = event_destroy,
      .EventRecord = event_record,
      .EventQuery = event_query,
      .EventSynchronize = event_synchronize,
      .GetLastError = get_last_error,
      .PeekAtLastError = peek_at_last_error,
      .GetErrorName = get_error_name,
      .GetErrorString = get_error_string,
  };
  return kTable;
}

}  // namespace flatbed::fake_cuda
