// cuda_devices() on the machine at hand: without a driver or a device a typed error, with one the
// list that the CUDA runtime gives. Nothing is skipped.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include "flatbed/cuda.hpp"

namespace flatbed {
namespace {

int device_count() {
  int count = 0;
  const bool counted = cudaGetDeviceCount(&count) == cudaSuccess;
  static_cast<void>(cudaGetLastError());
  return counted ? count : 0;
}

TEST(CudaDevices, ListsDevicesOrSaysThatThereAreNone) {
  const auto devices = cuda_devices();
  if (device_count() == 0) {
    ASSERT_FALSE(devices);
    EXPECT_EQ(devices.error().code, ErrorCode::device_unavailable) << devices.error().message;
    EXPECT_NE(devices.error().message.find("CUDA"), std::string::npos) << devices.error().message;
    return;
  }
  ASSERT_TRUE(devices) << devices.error().message;
  ASSERT_EQ(devices->size(), static_cast<std::size_t>(device_count()));
  for (std::size_t i = 0; i < devices->size(); ++i) {
    const CudaDeviceInfo& device = (*devices)[i];
    EXPECT_EQ(device.ordinal, static_cast<int>(i));
    EXPECT_FALSE(device.name.empty());
    EXPECT_GT(device.memory_nbytes, 0U);
    EXPECT_GT(device.compute_major, 0);
  }
}

// Without a driver every call of the runtime, this one too, reports that; so compare.
TEST(CudaDevices, LeavesNoErrorBehind) {
  const cudaError_t before = cudaPeekAtLastError();
  static_cast<void>(cuda_devices());
  EXPECT_EQ(cudaPeekAtLastError(), before);
}

TEST(CudaDevices, GivesTheSameAnswerTwice) {
  const auto first = cuda_devices();
  const auto second = cuda_devices();
  ASSERT_EQ(first.has_value(), second.has_value());
  if (first) return;
  EXPECT_EQ(first.error().message, second.error().message);
}

}  // namespace
}  // namespace flatbed
