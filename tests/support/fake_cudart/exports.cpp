// The symbols of libcudart.so.13 that a program needs which calls what CudaApi has. The fake is
// made at the first call, as FLATBED_FAKE_CUDA says (config.hpp); at the end of the process its
// ledger goes to the file that FLATBED_FAKE_CUDA_LEDGER names, one sentence a line, "MISUSE",
// "LEAK" or "NOTE" before it. The file is written even when it is empty.
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "support/fake_cuda_state.hpp"
#include "support/fake_cudart/config.hpp"

namespace flatbed::fake_cuda {
namespace {

// CUDA unloads when the process's exit handlers run; calls of static destructors come later than
// that, and are in the ledger, which is written when this library ends.
struct Process {
  std::unique_ptr<FakeCuda> fake;
  std::vector<std::string> mistakes;
  std::vector<std::string> leaks;
};
Process* g_process = nullptr;

void write_ledger() {
  const char* const path = std::getenv("FLATBED_FAKE_CUDA_LEDGER");
  FILE* const file = path == nullptr ? nullptr : std::fopen(path, "we");
  if (file == nullptr) return;
  const auto write = [file](const char* kind, const std::vector<std::string>& sentences) {
    for (const std::string& sentence : sentences) {
      std::fprintf(file, "%s %s\n", kind, sentence.c_str());
    }
  };
  write("MISUSE", g_process->mistakes);
  write("MISUSE", g_process->fake->misuse());
  write("LEAK", g_process->leaks);
  write("NOTE", g_process->fake->notes());
  std::fclose(file);
}

[[gnu::destructor]] void end() {
  if (g_process == nullptr) return;
  write_ledger();
  delete g_process;
  g_process = nullptr;
}

void unload() {
  g_process->leaks = g_process->fake->leaks();
  g_process->fake->unload();
}

Process* begin() {
  const char* const text = std::getenv("FLATBED_FAKE_CUDA");
  const Config config = parse_config(text == nullptr ? "" : text);
  g_process = new Process{std::make_unique<FakeCuda>(config.options), config.mistakes, {}};
  for (const Injection& injection : config.injections) g_process->fake->fail(injection);
  std::atexit(unload);
  return g_process;
}

const cuda::CudaApi& calls() {
  static const Process* const process = begin();
  static_cast<void>(process);
  return table();
}

}  // namespace
}  // namespace flatbed::fake_cuda

using flatbed::fake_cuda::calls;

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) { return calls().GetDeviceCount(count); }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  return calls().GetDeviceProperties(properties, device);
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  return calls().DeviceGetAttribute(value, attribute, device);
}
cudaError_t cudaDeviceGetPCIBusId(char* id, int size, int device) {
  return calls().DeviceGetPCIBusId(id, size, device);
}
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) { return calls().MemGetInfo(free, total); }
cudaError_t cudaMemcpyBatchAsync(void* const* to, const void* const* from, const size_t* nbytes,
                                 size_t count, cudaMemcpyAttributes*, size_t*, size_t,
                                 cudaStream_t stream) {
  return calls().MemcpyBatchAsync(to, from, nbytes, count, stream);
}
cudaError_t cudaSetDevice(int device) { return calls().SetDevice(device); }
cudaError_t cudaMalloc(void** out, size_t nbytes) { return calls().Malloc(out, nbytes); }
cudaError_t cudaFree(void* memory) { return calls().Free(memory); }
cudaError_t cudaHostAlloc(void** out, size_t nbytes, unsigned flags) {
  return calls().HostAlloc(out, nbytes, flags);
}
cudaError_t cudaMallocHost(void** out, size_t nbytes) { return calls().HostAlloc(out, nbytes, 0); }
cudaError_t cudaFreeHost(void* memory) { return calls().FreeHost(memory); }
cudaError_t cudaHostRegister(void* memory, size_t nbytes, unsigned flags) {
  return calls().HostRegister(memory, nbytes, flags);
}
cudaError_t cudaHostUnregister(void* memory) { return calls().HostUnregister(memory); }
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* out, const void* data) {
  return calls().PointerGetAttributes(out, data);
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* out, unsigned flags) {
  return calls().StreamCreateWithFlags(out, flags);
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) { return calls().StreamDestroy(stream); }
cudaError_t cudaStreamQuery(cudaStream_t stream) { return calls().StreamQuery(stream); }
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  calls();
  return flatbed::fake_cuda::stream_synchronize(stream);
}
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* argument) {
  return calls().LaunchHostFunc(stream, function, argument);
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) {
  return calls().StreamWaitEvent(stream, event, flags);
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  return calls().StreamIsCapturing(stream, status);
}
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  return calls().ThreadExchangeStreamCaptureMode(mode);
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t nbytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  return calls().MemcpyAsync(to, from, nbytes, kind, stream);
}
cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch,
                              size_t width, size_t height, cudaMemcpyKind kind,
                              cudaStream_t stream) {
  return calls().Memcpy2DAsync(to, to_pitch, from, from_pitch, width, height, kind, stream);
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* out, unsigned flags) {
  return calls().EventCreateWithFlags(out, flags);
}
cudaError_t cudaEventDestroy(cudaEvent_t event) { return calls().EventDestroy(event); }
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return calls().EventRecord(event, stream);
}
cudaError_t cudaEventQuery(cudaEvent_t event) { return calls().EventQuery(event); }
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  calls();
  return flatbed::fake_cuda::event_synchronize(event);
}
cudaError_t cudaGetLastError() { return calls().GetLastError(); }
cudaError_t cudaPeekAtLastError() { return calls().PeekAtLastError(); }
const char* cudaGetErrorName(cudaError_t error) { return calls().GetErrorName(error); }
const char* cudaGetErrorString(cudaError_t error) { return calls().GetErrorString(error); }

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

// What nvcc's host code calls before main(); there are no kernels here.
void** __cudaRegisterFatBinary(void*);
void** __cudaRegisterFatBinary(void*) {
  static void* handle = nullptr;
  return &handle;
}
void __cudaRegisterFatBinaryEnd(void**);
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**);
void __cudaUnregisterFatBinary(void**) {}
char __cudaInitModule(void**);
char __cudaInitModule(void**) { return 0; }
void __cudaRegisterFunction(void**, const char*, char*, const char*, int, void*, void*, void*,
                            void*, int*);
void __cudaRegisterFunction(void**, const char*, char*, const char*, int, void*, void*, void*,
                            void*, int*) {}
void __cudaRegisterVar(void**, char*, char*, const char*, int, size_t, int, int);
void __cudaRegisterVar(void**, char*, char*, const char*, int, size_t, int, int) {}
cudaError_t __cudaPushCallConfiguration(dim3, dim3, size_t, void*);
cudaError_t __cudaPushCallConfiguration(dim3, dim3, size_t, void*) { return cudaErrorNotSupported; }
cudaError_t __cudaPopCallConfiguration(dim3*, dim3*, size_t*, void*);
cudaError_t __cudaPopCallConfiguration(dim3*, dim3*, size_t*, void*) {
  return cudaErrorNotSupported;
}
cudaError_t cudaLaunchKernel(const void*, dim3, dim3, void**, size_t, cudaStream_t) {
  return cudaErrorNotSupported;
}
}
