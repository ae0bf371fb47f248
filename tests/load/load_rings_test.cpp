// Loads past the page cache with the system's own queues (io_uring), by several threads at once:
// into memory laid out as the file, out of slots, and to a device, of which there are too few. For
// the thread sanitizer above all; what each read may do is tested with a fake (load_ahead_test).
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/str_cat.hpp"
#include "flatbed/load.hpp"
#include "support/expect_error.hpp"
#include "support/fake_device.hpp"
#include "support/load_model.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::FakeDevice;
using test::fill;
using test::ModelTensor;
using test::Target;
using test::TempDir;
using test::write_model;

struct Rings {
  TempDir dir;
  std::vector<ModelTensor> tensors;
  Checkpoint checkpoint;
  std::vector<Target> targets;
  FakeDevice device;
  LoadPlan plan;
  std::atomic<bool> cancel = false;

  Rings() : checkpoint(write()) {
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      const std::uint64_t lies = checkpoint.find(tensors[i].name)->where.offset % 4096;
      targets.emplace_back(tensors[i].bytes.size(), i % 3 == 0 ? lies : (lies + 64 * i) % 4096);
    }
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      Device* const to = i % 3 == 1 ? &device : nullptr;
      EXPECT_OK(plan.add(checkpoint, tensors[i].name, targets[i].destination(to),
                         {.group = {static_cast<std::uint32_t>(i / 4)}}));
    }
  }
  Checkpoint write() {
    for (std::uint64_t i = 0; i < 24; ++i)
      tensors.push_back({str_cat("t", i), Dtype::u8, {600'001 + 37'000 * i}});
    fill(tensors);
    return write_model(dir / "a.safetensors", tensors);
  }
  [[nodiscard]] LoadOptions options() {
    return {.io = IoMode::direct,
            .threads = 4,
            .staging_nbytes = 3 << 20,
            .slot_nbytes = 512 << 10,
            .cancel = &cancel};
  }
  void expect_nothing_under_way() {
    EXPECT_EQ(device.pending(), 0u);
    EXPECT_EQ(device.staged_nbytes(), 0u);
    for (Target& target : targets) EXPECT_TRUE(target.border_is_whole());
  }
};

TEST(LoadRings, ServeSeveralThreadsAtOnce) {
  Rings a;
  for (int round = 0; round < 5; ++round) {
    for (Target& target : a.targets) std::ranges::fill(target.span(), std::byte{});
    const Result<LoadReport> report = load(a.plan, a.options());
    ASSERT_OK(report);
    for (std::size_t i = 0; i < a.tensors.size(); ++i)
      EXPECT_TRUE(a.targets[i].bytes() == a.tensors[i].bytes) << i;
    EXPECT_EQ(report->bytes_verified, report->bytes_wanted);
    a.expect_nothing_under_way();
    if (!report->queued) GTEST_SKIP() << "no io_uring here: " << name(report->no_queue);
  }
}

// At the first word of progress, with reads of all threads on their way.
TEST(LoadRings, AreEmptyAfterALoadThatIsCancelled) {
  Rings a;
  for (int round = 0; round < 5; ++round) {
    a.cancel = round == 0;
    LoadOptions options = a.options();
    options.ready = [&a](const GroupReady&) -> Result<void> {
      a.cancel = true;
      return {};
    };
    const Result<LoadReport> report = load(a.plan, options);
    EXPECT_TRUE(report || report.error().code == ErrorCode::cancelled);
    a.expect_nothing_under_way();
  }
}

}  // namespace
}  // namespace flatbed
