// Bytes that reach host memory by a copy of the processor's: out of a slot, or by way of a buffer
// in the cache. Each chunk is copied once it is verified, and none that is not.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "flatbed/load.hpp"
#include "load/load_hooks.hpp"
#include "support/expect_error.hpp"
#include "support/fake_device.hpp"
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

constexpr std::uint64_t kBig = 9 * kChunk + 70'001;  // the last chunk is large enough to bounce
constexpr std::uint64_t kBad = 2;                    // the chunk of "big" that may be damaged

// How bytes travel: read to their places, by way of the buffer, or by way of a slot.
enum class Way : std::uint8_t { place, bounce, slot };

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

Result<LoadReport> run(const LoadPlan& plan, Way way, Verify verify = Verify::yes) {
  LoadHooks hooks;
  hooks.now_ns = [] {
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    return static_cast<std::uint64_t>(std::chrono::nanoseconds(now).count());
  };
  hooks.bounce = way == Way::bounce;
  const IoMode io = way == Way::slot ? IoMode::direct : IoMode::buffered;
  return load_with_hooks(
      plan, {.verify = verify, .io = io, .threads = 1, .staging_nbytes = 16 << 20}, hooks);
}

std::string name_of(const testing::TestParamInfo<Way>& info) {
  constexpr std::array<const char*, 3> kNames{"Place", "Bounce", "Slot"};
  return kNames[static_cast<std::size_t>(info.param)];
}

class LoadCopies : public testing::TestWithParam<Way> {};
INSTANTIATE_TEST_SUITE_P(, LoadCopies, testing::Values(Way::place, Way::bounce, Way::slot),
                         name_of);

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

}  // namespace
}  // namespace flatbed
