// Bytes that reach host memory by a copy of the processor's: out of a slot, by way of a buffer in
// the cache, or out of the page cache. Each chunk is copied once it is verified, and none that is
// not.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "flatbed/load.hpp"
#include "io/descriptor.hpp"
#include "io/digest.hpp"
#include "load/load_hooks.hpp"
#include "load/load_schedule.hpp"
#include "support/expect_error.hpp"
#include "support/fake_device.hpp"
#include "support/leases.hpp"
#include "support/load_model.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::FakeDevice;
using test::fill;
using test::kChunk;
using test::ModelTensor;
using test::read_file;
using test::slice_of;
using test::Target;
using test::TempDir;
using test::write_file;
using test::write_model;

// Two jobs, both large enough to lease pages for them; the last chunk is large enough to be copied.
constexpr std::uint64_t kBig = 14 * kChunk + 70'001;
constexpr std::uint64_t kBad = 2;  // the chunk of "big" that may be damaged

// How bytes travel: read to their places, by way of the buffer, out of leased pages, or by way of a
// slot.
enum class Way : std::uint8_t { place, bounce, pages, slot };

struct Model {
  TempDir dir;
  std::vector<ModelTensor> tensors{
      {"big", Dtype::u8, {kBig}}, {"columns", Dtype::u8, {700, 1000}}, {"small", Dtype::u8, {999}}};
  Checkpoint checkpoint;

  Model() : checkpoint(write()) {}
  Checkpoint write() {
    fill(tensors);
    return write_model(dir / "a.safetensors", tensors);
  }
  void damage() {
    const std::uint64_t at = checkpoint.find("big")->where.offset + kBad * kChunk + 77;
    std::string file = read_file(dir / "a.safetensors");
    file[at] = static_cast<char>(file[at] ^ 1);
    write_file(dir / "a.safetensors", file);
    checkpoint = Checkpoint::open(dir / "a.safetensors").value();
  }
  [[nodiscard]] std::uint64_t place_in_page() const {
    return checkpoint.find("big")->where.offset % Target::kBorder;
  }
};

LoadHooks hooks_for(Way way) {
  LoadHooks hooks;
  hooks.now_ns = [] {
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    return static_cast<std::uint64_t>(std::chrono::nanoseconds(now).count());
  };
  hooks.bounce = way == Way::bounce;
  hooks.lease = way == Way::pages;
  return hooks;
}

Result<LoadReport> run(const LoadPlan& plan, Way way, Verify verify = Verify::yes) {
  const IoMode io = way == Way::slot ? IoMode::direct : IoMode::buffered;
  return load_with_hooks(
      plan, {.verify = verify, .io = io, .threads = 1, .staging_nbytes = 16 << 20}, hooks_for(way));
}

std::string name_of(const testing::TestParamInfo<Way>& info) {
  constexpr std::array<const char*, 4> kNames{"Place", "Bounce", "Pages", "Slot"};
  return kNames[static_cast<std::size_t>(info.param)];
}

class LoadCopies : public testing::TestWithParam<Way> {};
INSTANTIATE_TEST_SUITE_P(, LoadCopies,
                         testing::Values(Way::place, Way::bounce, Way::pages, Way::slot), name_of);

TEST_P(LoadCopies, DeliverWhatTheFileHolds) {
  const Model a;
  for (const std::uint64_t shift : {0U, 1U, 64U, 4095U}) {
    Target big(kBig, shift);
    Target again(kBig, shift);
    Target columns(700 * 300, shift);
    Target small(999, shift);
    Target on_device(kBig);
    FakeDevice device;
    LoadPlan plan;
    ASSERT_OK(plan.add(a.checkpoint, "big", big.destination()));
    ASSERT_OK(plan.add(a.checkpoint, "big", again.destination(), {.group = {1, 1}}));
    ASSERT_OK(plan.add(a.checkpoint, "big", on_device.destination(&device), {.group = {1, 1}}));
    ASSERT_OK(plan.add(a.checkpoint, "columns", columns.destination(), {.slice = {1, 50, 350}}));
    ASSERT_OK(plan.add(a.checkpoint, "small", small.destination()));
    for (const Verify verify : {Verify::yes, Verify::no}) {
      const Result<LoadReport> report = run(plan, GetParam(), verify);
      ASSERT_OK(report);
      EXPECT_TRUE(big.bytes() == a.tensors[0].bytes);
      EXPECT_TRUE(again.bytes() == a.tensors[0].bytes);
      EXPECT_TRUE(on_device.bytes() == a.tensors[0].bytes);
      EXPECT_TRUE(columns.bytes() == slice_of(a.tensors[1], 1, 50, 350));
      EXPECT_TRUE(small.bytes() == a.tensors[2].bytes);
      for (Target* const target : {&big, &again, &columns, &small, &on_device}) {
        EXPECT_TRUE(target->border_is_whole());
        std::fill_n(target->data(), target->bytes().size(), std::byte{0x11});
      }
    }
  }
}

// The damaged chunk may be there: the processor hashes it while it copies it.
TEST_P(LoadCopies, BringNothingBehindADamagedChunk) {
  Model a;
  a.damage();
  // Beside the place that direct reads could go to.
  Target target(kBig, (a.place_in_page() + 64) % Target::kBorder);
  LoadPlan plan;
  ASSERT_OK(plan.add(a.checkpoint, "big", target.destination()));
  EXPECT_ERROR(run(plan, GetParam()), chunk_corrupt);
  const std::string_view found = target.bytes();
  const std::string_view expected = a.tensors[0].bytes;
  EXPECT_TRUE(found.substr(0, kBad * kChunk) == expected.substr(0, kBad * kChunk));
  const std::string_view rest = found.substr((kBad + 1) * kChunk);
  EXPECT_EQ(rest.find_first_not_of('\x5c'), rest.npos);
  EXPECT_TRUE(target.border_is_whole());
}

// A store would end the process.
TEST_P(LoadCopies, ReportMemoryThatCannotBeWritten) {
  if (GetParam() == Way::slot) GTEST_SKIP() << "out of a slot, only the processor writes";
  const Model a;
  constexpr std::size_t kNbytes = 4 << 20;
  void* const memory = ::mmap(nullptr, kNbytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  for (const std::uint64_t begin : {std::uint64_t{0}, std::uint64_t{3 * kChunk}}) {
    LoadPlan plan;
    ASSERT_OK(plan.add(a.checkpoint, "big", {.data = memory, .capacity = kNbytes},
                       {.slice = {0, begin, kBig}}));
    EXPECT_ERROR(run(plan, GetParam()), destination_invalid);
  }
  ::munmap(memory, kNbytes);
}

// Calls `meanwhile` for each chunk while it is hashed, out of leased pages or not.
Result<LoadReport> run_out_of_pages(const LoadPlan& plan, const std::function<void()>& meanwhile,
                                    Verify verify = Verify::yes) {
  LoadHooks hooks = hooks_for(Way::pages);
  hooks.hash = [&](std::span<const std::byte> bytes) {
    meanwhile();
    return xxh3(bytes);
  };
  return load_with_hooks(plan, {.verify = verify, .io = IoMode::buffered, .threads = 1}, hooks);
}

struct Loading : Model {
  Target target{kBig};
  LoadPlan plan;
  Loading() { EXPECT_OK(plan.add(checkpoint, "big", target.destination())); }
  [[nodiscard]] bool arrived() { return target.bytes() == tensors[0].bytes; }
};

TEST(LoadOutOfPages, LetsNobodyWriteMeanwhile) {
  Loading a;
  if (!test::has_leases(a.dir.path())) GTEST_SKIP() << "no leases in the temporary folder";
  unsigned held_up = 0;
  const Result<LoadReport> report = run_out_of_pages(
      a.plan, [&] { held_up += test::can_write(a.dir / "a.safetensors") ? 0 : 1; });
  ASSERT_OK(report);
  EXPECT_EQ(held_up, kBig / kChunk + 1);
  EXPECT_TRUE(a.arrived());
  EXPECT_EQ(report->bytes_read, kBig);
  EXPECT_EQ(report->bytes_verified, kBig);
  EXPECT_TRUE(test::can_write(a.dir / "a.safetensors"));
}

TEST(LoadOutOfPages, IsLeftWhereSomebodyMayWrite) {
  Loading a;
  const Descriptor writer(::open((a.dir / "a.safetensors").c_str(), O_RDWR | O_CLOEXEC));
  for (const Verify verify : {Verify::yes, Verify::no}) {
    std::fill_n(a.target.data(), kBig, std::byte{0});
    const Result<LoadReport> report = run_out_of_pages(
        a.plan, [] {}, verify);
    ASSERT_OK(report);
    EXPECT_TRUE(a.arrived());
    EXPECT_EQ(report->bytes_read, kBig);
  }
}

// From one job to the next, not at the end of the load.
TEST(LoadOutOfPages, HoldsNobodyUpForLong) {
  Loading a;
  if (!test::has_leases(a.dir.path())) GTEST_SKIP() << "no leases in the temporary folder";
  std::atomic<bool> begun = false;
  std::atomic<bool> waits = false;
  std::atomic<bool> written = false;
  std::thread writer([&] {
    while (!begun) std::this_thread::yield();
    waits = true;
    const Descriptor file(::open((a.dir / "a.safetensors").c_str(), O_WRONLY | O_CLOEXEC));
    written = file.get() >= 0;
  });
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  unsigned chunks = 0;
  bool in_time = false;
  const Result<LoadReport> report = run_out_of_pages(a.plan, [&] {
    if (!begun.exchange(true)) {
      while (!waits) std::this_thread::yield();
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      EXPECT_FALSE(written);
    }
    if (++chunks <= kReadNbytes / kChunk) return;  // of the first job
    while (!written && std::chrono::steady_clock::now() < end) std::this_thread::yield();
    in_time = written;
  });
  begun = true;
  writer.join();
  ASSERT_OK(report);
  EXPECT_TRUE(in_time);
  EXPECT_TRUE(a.arrived());
}

// A mapping would end the process.
TEST(LoadOutOfPages, SurvivesAFileThatShrinksAgainAndAgain) {
  Loading a;
  const std::string whole = read_file(a.dir / "a.safetensors");
  std::atomic<bool> done = false;
  std::thread other([&] {
    for (std::uint64_t n = 0; !done; ++n) {
      const auto nbytes = static_cast<off_t>(whole.size() / 7 * (n % 7));
      if (::truncate((a.dir / "a.safetensors").c_str(), nbytes) != 0) break;
      write_file(a.dir / "a.safetensors", whole);
      // Sometimes for the length of a load, sometimes for that of a job.
      std::this_thread::sleep_for(std::chrono::microseconds(n % 20 * 200));
    }
  });
  unsigned failed = 0;
  unsigned whole_loads = 0;
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while ((failed < 20 || whole_loads < 20) && std::chrono::steady_clock::now() < end) {
    const Result<Checkpoint> opened = Checkpoint::open(a.dir / "a.safetensors");
    if (!opened) continue;
    LoadPlan plan;
    ASSERT_OK(plan.add(*opened, "big", a.target.destination()));
    std::fill_n(a.target.data(), kBig, std::byte{0});
    const Result<LoadReport> report = run_out_of_pages(plan, [] {});
    if (report) {
      ++whole_loads;
      EXPECT_TRUE(a.arrived());
      continue;
    }
    ++failed;
    EXPECT_TRUE(report.error().code == ErrorCode::file_changed ||
                report.error().code == ErrorCode::chunk_corrupt)
        << report.error().message;
  }
  done = true;
  other.join();
  EXPECT_GT(failed, 0U);
  EXPECT_GT(whole_loads, 0U);
}

}  // namespace
}  // namespace flatbed
