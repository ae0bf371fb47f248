// The duration of a load in a simulated world: its threads and slots under a virtual clock, with
// models of a disk, of processors that hash, and of a GPU's link. What is measured is whether the
// stages overlap, not how fast any of them is. That waiting threads go on late is part of it: by
// how much was measured, once, on two cores of an AMD EPYC (a program around nanosleep() and a
// condition variable; us):
//
//                           idle: p50   p99     both cores copy memory: p50   p99   largest
//   nanosleep(4 us)              78.5  118.3                           75.4  1911      6947
//   nanosleep(128 us)           200.1  235.2                          196.2   221      9088
//   a condition variable          4.0    8.4                            5.4   7.0        38
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
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
#include "support/poll.hpp"
#include "support/temp_dir.hpp"
#include "support/virtual_clock.hpp"

namespace flatbed {
namespace {

using safetensors::kChunkBytes;
using safetensors::SealTensor;
using test::TempDir;
using test::VirtualClock;
using test::VirtualServers;

constexpr std::uint64_t kTensor = 8 << 20;
constexpr std::uint64_t kTensors = 200;
constexpr std::uint64_t kLatency = 80'000;
constexpr std::uint64_t kSubmit = 5'000;
// Twice the p99, because two threads are woken in turn: CUDA's, and by it the one that waits.
constexpr std::uint64_t kWake = 17'000;
constexpr std::uint64_t kOversleep = 72'000;  // the usual
constexpr double kMiB = 1 << 20;

std::uint64_t digest_of_zeros() { return xxh3(std::vector<std::byte>(kChunkBytes)); }

// A sealed file of zeros that takes no room on the disk.
Checkpoint write_zeros(const std::filesystem::path& path) {
  const std::vector<std::uint64_t> shape{kTensor};
  std::vector<std::string> names;
  for (std::uint64_t i = 0; i < kTensors; ++i) names.push_back(str_cat("t", 1000 + i));
  std::vector<SealTensor> tensors;
  for (const std::string& name : names) tensors.push_back({name, Dtype::u8, shape, kTensor});
  safetensors::NewHeader header = safetensors::build_header(tensors, {}, {}).value();
  const std::uint64_t digest = digest_of_zeros();
  for (std::uint32_t i = 0; i < kTensors; ++i) {
    for (std::uint64_t chunk = 0; chunk < kTensor / kChunkBytes; ++chunk)
      put_digest(header, i, chunk, digest);
  }
  seal_header(header, tensors, {});
  test::write_file(path, header.bytes);
  std::filesystem::resize_file(path, header.file_nbytes);
  return Checkpoint::open(path).value();
}

enum class Waiting { woken, asking };

struct World {
  const char* description;
  double disk;  // bytes per nanosecond, as all that follow
  double link;
  double hash = 12;    // of one processor
  unsigned cores = 8;  // that hash
  unsigned threads = 8;
  std::uint64_t staging_nbytes = 128 << 20;
  std::uint64_t slot_nbytes = 8 << 20;
  Waiting waiting = Waiting::woken;
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

// Whoever waits goes on kWake after what it waits for, or asks again and again and sleeps too long.
LoadHooks hooks_of(VirtualClock& clock, Waiting waiting) {
  constexpr std::uint64_t kLook = 8'000;  // how exactly the model knows when a copy is done
  LoadHooks hooks = clock.hooks();
  if (waiting == Waiting::asking) {
    test::poll(hooks, [&clock](std::uint64_t ns) { clock.sleep_ns(ns + kOversleep); });
    return hooks;
  }
  hooks.wait = [&clock](Device& device, Ticket ticket, std::chrono::nanoseconds) -> Result<bool> {
    bool waited = false;
    while (true) {
      FLATBED_ASSIGN(const bool is_done, device.done(ticket));
      if (is_done) break;
      clock.sleep_ns(kLook);
      waited = true;
    }
    if (waited) clock.sleep_ns(kWake);
    return true;
  };
  hooks.wait_for_slot = [&clock](std::chrono::nanoseconds) { clock.sleep_ns(kWake); };
  return hooks;
}

Seconds run(const World& world) {
  const TempDir dir;
  const Checkpoint checkpoint = write_zeros(dir / "zeros");
  VirtualClock clock(world.threads);
  VirtualServers disk(clock, {1, world.disk, kLatency});
  VirtualServers cores(clock, {std::min(world.cores, world.threads), world.hash, 0});
  LoadHooks hooks = hooks_of(clock, world.waiting);
  FakeCuda fake({.move_bytes = false,
                 .now_ns = hooks.now_ns,
                 .sleep_ns = [&clock](std::uint64_t ns) { clock.sleep_ns(ns); },
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
  auto* const memory = static_cast<std::byte*>(fake.engine_allocate(0, kTensors * kTensor));
  LoadPlan plan;
  for (std::uint64_t i = 0; i < kTensors; ++i) {
    EXPECT_OK(
        plan.add(checkpoint, str_cat("t", 1000 + i),
                 {.device = device.get(), .data = memory + i * kTensor, .capacity = kTensor}));
  }
  const Result<LoadReport> report = load_with_hooks(plan,
                                                    {.io = IoMode::direct,
                                                     .threads = world.threads,
                                                     .staging_nbytes = world.staging_nbytes,
                                                     .slot_nbytes = world.slot_nbytes},
                                                    hooks);
  EXPECT_OK(report);
  if (!report) return {};
  EXPECT_EQ(report->threads, world.threads);
  EXPECT_EQ(report->bytes_verified, kTensors * kTensor);
  EXPECT_LE(report->peak_staging_nbytes, world.staging_nbytes);
  EXPECT_TRUE(fake.misuse().empty());
  const auto nbytes = static_cast<double>(kTensors * kTensor);
  const double slots = nbytes / static_cast<double>(world.slot_nbytes);
  const double of_thread =
      nbytes / world.disk + nbytes / world.hash + slots * static_cast<double>(kLatency + kSubmit);
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
      run({.description = "TwoSlots", .disk = 40, .link = 25, .staging_nbytes = 16 << 20});
  EXPECT_GT(seconds.total, 1.5 * seconds.link);
  EXPECT_EQ(name(seconds.bottleneck), "slots");
}

// What a load with 14 threads, the usual number for such a link, does with its own staging memory.
constexpr World kFastLink{.description = "FastLink",
                          .disk = 80,
                          .link = 55,
                          .hash = 9,
                          .cores = 14,
                          .threads = 14,
                          .staging_nbytes = 64 << 20,
                          .slot_nbytes = 2 << 20,
                          .slowest = Stage::hash};
// As many slots as threads, which are just fast enough if they do not wait for long.
constexpr World kFewSlots{.description = "FastLinkFewSlots",
                          .disk = 80,
                          .link = 55,
                          .hash = 6.2,
                          .cores = 14,
                          .threads = 14,
                          .staging_nbytes = 28 << 20,
                          .slot_nbytes = 2 << 20,
                          .slowest = Stage::hash};

TEST(LoadClockModel, TellsOfThreadsThatAskInsteadOfBeingWoken) {
  const Seconds woken = run(kFewSlots);
  World world = kFewSlots;
  world.waiting = Waiting::asking;
  const Seconds asking = run(world);
  std::printf(
      "model, no hardware: a 55 GB/s link is used to %.3f by threads that are woken, %.3f by "
      "threads that ask\n",
      woken.link / woken.total, asking.link / asking.total);
  EXPECT_GE(woken.link / woken.total, 0.97);
  EXPECT_LT(asking.link / asking.total, 0.97);
}

constexpr World kWorlds[] = {
    kFastLink,
    kFewSlots,

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
