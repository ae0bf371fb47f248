// cuda_device() and cuda_devices() on the machine at hand: without a driver or a device a typed
// error, with one what the driver says. Nothing is skipped.
#include <gtest/gtest.h>

#include <cstddef>
#include <string>
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
    EXPECT_EQ(device.error().message.rfind("cuda:0: ", 0), 0U) << device.error().message;
    return;
  }
  EXPECT_EQ((*device)->name(), "cuda:0");
  EXPECT_FALSE((*device)->is_host());
}

TEST(CudaDevice, OfAnOrdinalThatIsNotThereIsUnavailable) {
  for (const int ordinal : {-1, 1'000'000}) {
    const auto device = cuda_device(ordinal);
    ASSERT_FALSE(device);
    EXPECT_EQ(device.error().code, ErrorCode::device_unavailable) << device.error().message;
  }
}

TEST(CudaDevices, ListsDevicesOrSaysThatThereAreNone) {
  const auto devices = cuda_devices();
  if (!devices) {
    EXPECT_EQ(devices.error().code, ErrorCode::device_unavailable) << devices.error().message;
    EXPECT_NE(devices.error().message.find("CUDA"), std::string::npos) << devices.error().message;
    return;
  }
  ASSERT_FALSE(devices->empty());
  for (std::size_t i = 0; i < devices->size(); ++i) {
    const CudaDeviceInfo& device = (*devices)[i];
    EXPECT_EQ(device.ordinal, static_cast<int>(i));
    EXPECT_FALSE(device.name.empty());
    EXPECT_GT(device.memory_nbytes, 0U);
    EXPECT_GT(device.compute_major, 0);
  }
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
