// The duration of a load in a simulated world: its threads and slots under a virtual clock, with
// models of a disk, of processors that hash, and of a GPU's link. What is measured is whether the
// stages overlap, not how fast any of them is.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "base/str_cat.hpp"
#include "cuda/cuda_device.hpp"
#include "flatbed/load.hpp"
#include "io/digest.hpp"
#include "load/load_hooks.hpp"
#include "safetensors/header_write.hpp"
#include "support/expect_error.hpp"
#include "support/fake_cuda.hpp"
#include "support/temp_dir.hpp"
#include "support/virtual_clock.hpp"

namespace flatbed {
namespace {

using safetensors::kChunkBytes;
using safetensors::SealTensor;
using test::TempDir;
using test::VirtualClock;
using test::VirtualServers;

constexpr std::uint64_t kSlot = 8 << 20;
constexpr std::uint64_t kTensors = 200;  // of a slot each
constexpr std::uint64_t kLatency = 80'000;
constexpr std::uint64_t kSubmit = 5'000;
constexpr double kMiB = 1 << 20;

std::uint64_t digest_of_zeros() { return xxh3(std::vector<std::byte>(kChunkBytes)); }

// A sealed file of zeros that takes no room on the disk.
Checkpoint write_zeros(const std::filesystem::path& path) {
  const std::vector<std::uint64_t> shape{kSlot};
  std::vector<std::string> names;
  for (std::uint64_t i = 0; i < kTensors; ++i) names.push_back(str_cat("t", 1000 + i));
  std::vector<SealTensor> tensors;
  for (const std::string& name : names) tensors.push_back({name, Dtype::u8, shape, kSlot});
  safetensors::NewHeader header = safetensors::build_header(tensors, {}, {}).value();
  const std::uint64_t digest = digest_of_zeros();
  for (std::uint32_t i = 0; i < kTensors; ++i) {
    for (std::uint64_t chunk = 0; chunk < kSlot / kChunkBytes; ++chunk)
      put_digest(header, i, chunk, digest);
  }
  seal_header(header, tensors, {});
  test::write_file(path, header.bytes);
  std::filesystem::resize_file(path, header.file_nbytes);
  return Checkpoint::open(path).value();
}

struct World {
  const char* description;
  double disk;  // bytes per nanosecond, as all that follow
  double link;
  double hash = 12;    // of one processor
  unsigned cores = 8;  // that hash
  unsigned threads = 8;
  std::uint64_t staging_nbytes = 128 << 20;
  Stage slowest = Stage::read;
  friend void PrintTo(const World& world, std::ostream* out) { *out << world.description; }
};

struct Seconds {
  double total = 0;
  double read = 0;
  double hash = 0;
  double link = 0;
  double threads = 0;  // that do one thing after the other, without any waiting
  Stage bottleneck = Stage::read;
};

Seconds run(const World& world) {
  const TempDir dir;
  const Checkpoint checkpoint = write_zeros(dir / "zeros");
  VirtualClock clock(world.threads);
  VirtualServers disk(clock, {1, world.disk, kLatency});
  VirtualServers cores(clock, {std::min(world.cores, world.threads), world.hash, 0});
  LoadHooks hooks = clock.hooks();
  FakeCuda fake({.move_bytes = false,
                 .now_ns = hooks.now_ns,
                 .sleep_ns = hooks.sleep_ns,
                 .submit_ns = kSubmit,
                 .link_bytes_per_ns = world.link});
  hooks.read = [&](std::uint32_t, std::uint64_t, std::span<std::byte> out) -> Result<void> {
    disk.serve(out.size());
    return {};
  };
  const std::uint64_t digest = digest_of_zeros();
  hooks.hash = [&](std::span<const std::byte> bytes) {
    cores.serve(bytes.size());
    return digest;
  };
  const auto device = cuda::make_cuda_device(FakeCuda::api(), 0, {}).value();
  auto* const memory = static_cast<std::byte*>(fake.engine_allocate(0, kTensors * kSlot));
  LoadPlan plan;
  for (std::uint64_t i = 0; i < kTensors; ++i) {
    EXPECT_OK(plan.add(checkpoint, str_cat("t", 1000 + i),
                       {.device = device.get(), .data = memory + i * kSlot, .capacity = kSlot}));
  }
  const Result<LoadReport> report = load_with_hooks(plan,
                                                    {.io = IoMode::direct,
                                                     .threads = world.threads,
                                                     .staging_nbytes = world.staging_nbytes,
                                                     .slot_nbytes = kSlot},
                                                    hooks);
  EXPECT_OK(report);
  if (!report) return {};
  EXPECT_EQ(report->threads, world.threads);
  EXPECT_EQ(report->bytes_verified, kTensors * kSlot);
  EXPECT_LE(report->peak_staging_nbytes, world.staging_nbytes);
  EXPECT_TRUE(fake.misuse().empty());
  const auto nbytes = static_cast<double>(kTensors * kSlot);
  const double of_thread = nbytes / world.disk + nbytes / world.hash +
                           static_cast<double>(kTensors * (kLatency + kSubmit));
  return {.total = report->seconds,
          .read = disk.seconds(),
          .hash = cores.seconds(),
          .link = nbytes / world.link * 1e-9,
          .threads = of_thread / world.threads * 1e-9,
          .bottleneck = report->bottleneck};
}

class LoadClock : public testing::TestWithParam<World> {};

TEST_P(LoadClock, TakesAsLongAsItsSlowestStage) {
  const World& world = GetParam();
  const Seconds seconds = run(world);
  const double slowest = std::max({seconds.read, seconds.hash, seconds.link, seconds.threads});
  std::printf(
      "model, no hardware: %-14s disk %2.0f GB/s, link %2.0f GB/s, hash %2.0f GB/s x %u, "
      "%u threads, ring %3.0f MiB: disk %6.2f, hash %6.2f, link %6.2f, threads "
      "%6.2f, total %6.2f ms = %.4f x the slowest; waited most for: %s\n",
      world.description, world.disk, world.link, world.hash, std::min(world.cores, world.threads),
      world.threads, static_cast<double>(world.staging_nbytes) / kMiB, seconds.read * 1e3,
      seconds.hash * 1e3, seconds.link * 1e3, seconds.threads * 1e3, seconds.total * 1e3,
      seconds.total / slowest, std::string(name(seconds.bottleneck)).c_str());
  EXPECT_LE(seconds.total, 1.03 * slowest);
  EXPECT_GE(seconds.total, slowest);
  EXPECT_EQ(name(seconds.bottleneck), name(world.slowest));
}

// The model sees it when stages do not overlap.
TEST(LoadClockModel, TellsOfTooFewSlots) {
  const Seconds seconds =
      run({.description = "TwoSlots", .disk = 40, .link = 25, .staging_nbytes = 2 * kSlot});
  EXPECT_GT(seconds.total, 1.5 * seconds.link);
  EXPECT_EQ(name(seconds.bottleneck), "slots");
}

constexpr World kWorlds[] = {
    {.description = "DiskBound", .disk = 7, .link = 25},
    {.description = "DiskFarBehind", .disk = 7, .link = 55},
    {.description = "LinkBound", .disk = 40, .link = 25, .slowest = Stage::link},
    {.description = "AllFast", .disk = 40, .link = 55},
    {.description = "DiskBoundSmallRing", .disk = 7, .link = 25, .staging_nbytes = 64 << 20},
    {.description = "DiskFarBehindSmallRing", .disk = 7, .link = 55, .staging_nbytes = 64 << 20},
    {.description = "LinkBoundSmallRing",
     .disk = 40,
     .link = 25,
     .staging_nbytes = 64 << 20,
     .slowest = Stage::link},
    {.description = "AllFastSmallRing", .disk = 40, .link = 55, .staging_nbytes = 64 << 20},
    {.description = "FewThreads", .disk = 40, .link = 55, .threads = 2, .slowest = Stage::hash},
    {.description = "FewProcessors", .disk = 40, .link = 55, .cores = 2, .slowest = Stage::hash},
};

INSTANTIATE_TEST_SUITE_P(Worlds, LoadClock, testing::ValuesIn(kWorlds),
                         [](const auto& world) { return std::string(world.param.description); });

}  // namespace
}  // namespace flatbed
