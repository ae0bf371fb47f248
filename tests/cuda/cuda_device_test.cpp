// cuda_device() on the machine at hand: without a driver or a device a typed error, with one a
// device to which copies are made. Nothing is skipped.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "flatbed/cuda.hpp"

namespace flatbed {
namespace {

TEST(CudaDevice, IsHadOrSaysThatThereIsNone) {
  const auto devices = cuda_devices();
  const auto device = cuda_device(0);
  ASSERT_EQ(device.has_value(), devices.has_value());
  if (!devices) {
    EXPECT_EQ(device.error().code, ErrorCode::device_unavailable) << device.error().message;
    EXPECT_EQ(device.error().message.rfind("cuda:0: cudaGetDeviceCount: cudaError", 0), 0U)
        << device.error().message;
    return;
  }
  EXPECT_EQ((*device)->name(), "cuda:0");
  EXPECT_FALSE((*device)->is_host());
}

// Without a driver every call of the runtime, this one too, reports that; so compare.
TEST(CudaDevice, LeavesNoErrorBehind) {
  const cudaError_t before = cudaPeekAtLastError();
  static_cast<void>(cuda_device(0));
  static_cast<void>(cuda_device(1'000'000));
  EXPECT_EQ(cudaPeekAtLastError(), before);
}

TEST(CudaDevice, OfAnOrdinalThatIsNotThereIsUnavailable) {
  for (const int ordinal : {-1, 1'000'000}) {
    const auto device = cuda_device(ordinal);
    ASSERT_FALSE(device);
    EXPECT_EQ(device.error().code, ErrorCode::device_unavailable) << device.error().message;
  }
}

}  // namespace
}  // namespace flatbed
