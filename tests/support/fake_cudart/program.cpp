// A program linked with the shared CUDA runtime, for test_fake_cudart.py: copies 3 MiB to the last
// device and exits with 0 if CUDA said that all went well, else with CUDA's error code. With the
// argument "leak" it gives nothing back; with "late" it calls CUDA in a static destructor.
#include <cuda_runtime_api.h>

#include <cstdlib>
#include <cstring>
#include <string_view>

namespace {

struct Late {
  bool on = false;
  ~Late() {
    if (on) static_cast<void>(cudaGetLastError());
  }
};

void check(cudaError_t status) {
  if (status != cudaSuccess) std::exit(static_cast<int>(status));
}

}  // namespace

int main(int argc, char** argv) {
  static Late late;
  const std::string_view how = argc > 1 ? argv[1] : "";
  late.on = how == "late";
  constexpr std::size_t kBytes = 3 << 20;
  int devices = 0;
  check(cudaGetDeviceCount(&devices));
  check(cudaSetDevice(devices - 1));
  void* pinned = nullptr;
  void* to = nullptr;
  cudaStream_t stream = nullptr;
  cudaEvent_t event = nullptr;
  check(cudaHostAlloc(&pinned, kBytes, cudaHostAllocDefault));
  check(cudaMalloc(&to, kBytes));
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  std::memset(pinned, 7, kBytes);
  check(cudaMemcpyAsync(to, pinned, kBytes, cudaMemcpyHostToDevice, stream));
  check(cudaEventRecord(event, stream));
  cudaError_t status = cudaEventQuery(event);
  while (status == cudaErrorNotReady) status = cudaEventQuery(event);
  check(status);
  if (how == "leak") return 0;
  check(cudaEventDestroy(event));
  check(cudaStreamDestroy(stream));
  check(cudaFree(to));
  check(cudaFreeHost(pinned));
  return 0;
}
