#include "driver_functions.hpp"

#include <dlfcn.h>

#include <array>
#include <string>
#include <type_traits>

namespace flatbed::cuda::driver {
namespace {

constexpr const char* kLibrary = "libcuda.so.1";
// Releases are numbered 1000 * major + 10 * minor. In 11.3 the driver learned to hand out its
// functions by version, and 11.4 has the youngest function that is needed.
constexpr int kOldest = 11040;

// A function has several forms under one name. The version of the release that brought a form
// selects it, in every later driver. The size of a pointer changed with 3.2, for example.
struct Row {
  const char* name;
  int version;
  void (*store)(DriverFunctions&, void*);
  bool required = true;
};

template <auto kMember>
void store(DriverFunctions& functions, void* found) {
  using Function = std::remove_reference_t<decltype(functions.*kMember)>;
  functions.*kMember = reinterpret_cast<Function>(found);
}

using F = DriverFunctions;
constexpr std::array kRows{
    Row{"cuInit", 2000, store<&F::cuInit>},
    Row{"cuGetErrorName", 6000, store<&F::cuGetErrorName>},
    Row{"cuGetErrorString", 6000, store<&F::cuGetErrorString>},
    Row{"cuDeviceGet", 2000, store<&F::cuDeviceGet>},
    Row{"cuDeviceGetCount", 2000, store<&F::cuDeviceGetCount>},
    Row{"cuDeviceGetName", 2000, store<&F::cuDeviceGetName>},
    Row{"cuDeviceGetUuid", 11040, store<&F::cuDeviceGetUuid>},
    Row{"cuDeviceTotalMem", 3020, store<&F::cuDeviceTotalMem>},
    Row{"cuDeviceGetAttribute", 2000, store<&F::cuDeviceGetAttribute>},
    Row{"cuDeviceGetPCIBusId", 4010, store<&F::cuDeviceGetPCIBusId>},
    Row{"cuDevicePrimaryCtxRetain", 7000, store<&F::cuDevicePrimaryCtxRetain>},
    Row{"cuDevicePrimaryCtxRelease", 11000, store<&F::cuDevicePrimaryCtxRelease>},
    Row{"cuCtxSetCurrent", 4000, store<&F::cuCtxSetCurrent>},
    Row{"cuMemGetInfo", 3020, store<&F::cuMemGetInfo>},
    Row{"cuMemAlloc", 3020, store<&F::cuMemAlloc>},
    Row{"cuMemFree", 3020, store<&F::cuMemFree>},
    Row{"cuMemHostAlloc", 2020, store<&F::cuMemHostAlloc>},
    Row{"cuMemFreeHost", 2000, store<&F::cuMemFreeHost>},
    Row{"cuMemHostRegister", 6050, store<&F::cuMemHostRegister>},
    Row{"cuMemHostUnregister", 4000, store<&F::cuMemHostUnregister>},
    Row{"cuPointerGetAttributes", 7000, store<&F::cuPointerGetAttributes>},
    Row{"cuStreamCreate", 2000, store<&F::cuStreamCreate>},
    Row{"cuStreamDestroy", 4000, store<&F::cuStreamDestroy>},
    Row{"cuStreamQuery", 2000, store<&F::cuStreamQuery>},
    Row{"cuStreamWaitEvent", 3020, store<&F::cuStreamWaitEvent>},
    Row{"cuStreamIsCapturing", 10000, store<&F::cuStreamIsCapturing>},
    Row{"cuThreadExchangeStreamCaptureMode", 10010, store<&F::cuThreadExchangeStreamCaptureMode>},
    Row{"cuLaunchHostFunc", 10000, store<&F::cuLaunchHostFunc>},
    Row{"cuMemcpyAsync", 4000, store<&F::cuMemcpyAsync>},
    Row{"cuMemcpyHtoDAsync", 3020, store<&F::cuMemcpyHtoDAsync>},
    Row{"cuMemcpyDtoHAsync", 3020, store<&F::cuMemcpyDtoHAsync>},
    Row{"cuMemcpy2DAsync", 3020, store<&F::cuMemcpy2DAsync>},
    Row{"cuMemcpyBatchAsync", 12080, store<&F::cuMemcpyBatchAsync>, false},
    Row{"cuEventCreate", 2000, store<&F::cuEventCreate>},
    Row{"cuEventDestroy", 4000, store<&F::cuEventDestroy>},
    Row{"cuEventRecord", 2000, store<&F::cuEventRecord>},
    Row{"cuEventQuery", 2000, store<&F::cuEventQuery>},
    Row{"cuEventSynchronize", 2000, store<&F::cuEventSynchronize>},
};
static_assert(kRows.size() * sizeof(void*) == sizeof(DriverFunctions));

std::string release_text(int version) {
  return "CUDA " + std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

// Hands out the driver's functions. Two of its functions do; the newer one is asked first.
class Finder {
 public:
  explicit Finder(void* library)
      : find_(reinterpret_cast<Find>(::dlsym(library, "cuGetProcAddress_v2"))),
        old_find_(reinterpret_cast<OldFind>(::dlsym(library, "cuGetProcAddress"))) {}

  [[nodiscard]] bool works() const { return find_ != nullptr || old_find_ != nullptr; }

  // Null if the driver has no such function.
  [[nodiscard]] void* find(const char* name, int version) const {
    void* found = nullptr;
    int status = 0;
    const CUresult result = find_ != nullptr ? find_(name, &found, version, kLegacyStream, &status)
                                             : old_find_(name, &found, version, kLegacyStream);
    return result == cudaSuccess ? found : nullptr;
  }

 private:
  using Find = CUresult (*)(const char*, void**, int, std::uint64_t, int*);
  using OldFind = CUresult (*)(const char*, void**, int, std::uint64_t);
  // The forms for which a null stream is the legacy default stream, not the calling thread's.
  static constexpr std::uint64_t kLegacyStream = 1;

  Find find_;
  OldFind old_find_;
};

Error too_old(const std::string& found) {
  return {ErrorCode::device_unavailable, "the NVIDIA driver is too old: found " + found +
                                             ", expected " + release_text(kOldest) + " or newer"};
}

}  // namespace

Result<DriverFunctions> find_driver_functions() {
  void* const library = ::dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (library == nullptr) {
    const char* const why = ::dlerror();
    return Error{ErrorCode::device_unavailable,
                 "no NVIDIA driver found: " + std::string(why == nullptr ? kLibrary : why)};
  }
  const auto get_version =
      reinterpret_cast<CUresult (*)(int*)>(::dlsym(library, "cuDriverGetVersion"));
  int version = 0;
  if (get_version == nullptr || get_version(&version) != cudaSuccess) {
    return Error{ErrorCode::device_unavailable,
                 "no NVIDIA driver found: " + std::string(kLibrary) + " does not say its version"};
  }
  const Finder finder(library);
  if (version < kOldest || !finder.works()) return too_old("one for " + release_text(version));
  DriverFunctions functions = {};
  for (const Row& row : kRows) {
    void* const found = finder.find(row.name, row.version);
    if (found == nullptr && row.required) {
      return too_old("one for " + release_text(version) + " without " + row.name);
    }
    row.store(functions, found);
  }
  return functions;
}

}  // namespace flatbed::cuda::driver
