// load(): chunks of a far file are hashed while the bytes after them are on their way.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "flatbed/load.hpp"
#include "io/digest.hpp"
#include "load/load_hooks.hpp"
#include "support/expect_error.hpp"
#include "support/fake_device.hpp"
#include "support/load_model.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::FakeDevice;
using test::kChunk;
using test::ModelTensor;
using test::slice_of;
using test::Target;

constexpr std::uint64_t kBig = 9 * kChunk + 10;
constexpr std::uint64_t kNever = ~std::uint64_t{0};

// A far source whose bytes arrive in odd pieces. Those that have not arrived are overwritten first.
class ArrivingSource final : public ByteSource {
 public:
  explicit ArrivingSource(std::string bytes) : bytes_(std::move(bytes)) {}

  [[nodiscard]] std::string_view label() const noexcept override { return "far"; }
  [[nodiscard]] std::uint64_t size() const noexcept override { return bytes_.size(); }
  [[nodiscard]] std::size_t preferred_read_nbytes() const noexcept override { return 8 << 20; }
  [[nodiscard]] unsigned max_rereads() const noexcept override { return 3; }
  [[nodiscard]] Result<void> read_at(std::uint64_t offset,
                                     std::span<std::byte> out) const override {
    copy(offset, out);
    return {};
  }
  [[nodiscard]] Result<void> reread_at(std::uint64_t offset,
                                       std::span<std::byte> out) const override {
    EXPECT_FALSE(reading) << "a reread within a read";
    ++rereads;
    if (fail_rereads) return Error{ErrorCode::io_error, "the line went dead"};
    copy(offset, out);
    return {};
  }
  [[nodiscard]] Result<void> read_with_progress(std::uint64_t offset,
                                                std::span<const std::span<std::byte>> parts,
                                                const ReadProgress& progress) const override {
    reading = true;
    const Result<void> read = arrive(offset, parts, progress);
    reading = false;
    return read;
  }

  std::vector<std::size_t> pieces{1, 100'000, kChunk, 300'001, 17, 2 * kChunk};
  std::uint64_t fail_at = kNever;  // reads fail before this offset
  bool fail_rereads = false;
  std::function<void()> after_piece = [] {};
  mutable std::atomic<std::uint64_t> damaged_at = kNever;
  mutable std::atomic<int> times = 0;  // that this byte still arrives damaged
  mutable std::atomic<bool> reading = false;
  mutable std::atomic<int> rereads = 0;
  mutable std::atomic<std::uint64_t> arrived = 0;  // of the last read
  mutable std::atomic<std::uint64_t> reads = 0;    // with progress

 private:
  void copy(std::uint64_t offset, std::span<std::byte> out) const {
    if (out.empty()) return;
    std::memcpy(out.data(), bytes_.data() + offset, out.size());
    if (damaged_at >= offset && damaged_at - offset < out.size() && times-- > 0)
      out[static_cast<std::size_t>(damaged_at - offset)] ^= std::byte{4};
  }

  [[nodiscard]] Result<void> arrive(std::uint64_t offset,
                                    std::span<const std::span<std::byte>> parts,
                                    const ReadProgress& progress) const {
    ++reads;
    arrived = 0;
    std::size_t piece = 0;
    for (const std::span<std::byte> part : parts) std::ranges::fill(part, std::byte{0xee});
    for (std::span<std::byte> part : parts) {
      while (!part.empty()) {
        const std::size_t nbytes = std::min(part.size(), pieces[piece++ % pieces.size()]);
        if (fail_at < offset + nbytes) return Error{ErrorCode::io_error, "the line went dead"};
        copy(offset, part.first(nbytes));
        part = part.subspan(nbytes);
        offset += nbytes;
        arrived += nbytes;
        FLATBED_TRY(progress(arrived));
        after_piece();
      }
    }
    return {};
  }

  std::string bytes_;
};

// "small" and "big" in a far file.
struct Far {
  std::vector<ModelTensor> tensors{{"small", Dtype::u8, {1000}}, {"big", Dtype::u8, {kBig}}};
  std::shared_ptr<ArrivingSource> source;
  std::uint64_t place = 0;  // of "big" in the file
  Checkpoint checkpoint;

  explicit Far(bool seal = true) : checkpoint(open(seal)) {}
  Checkpoint open(bool seal) {
    const test::TempDir dir;
    test::fill(tensors);
    const Checkpoint written = test::write_model(dir / "a.safetensors", tensors, seal);
    place = written.find("big")->where.offset;
    source = std::make_shared<ArrivingSource>(test::read_file(dir / "a.safetensors"));
    return Checkpoint::open(source).value();
  }

  Result<LoadReport> load_slice(std::uint64_t begin, std::uint64_t end, const LoadOptions& options,
                                Device* device = nullptr, const LoadHooks* hooks = nullptr) {
    Target target(end - begin, 8);
    LoadPlan plan;
    FLATBED_TRY(
        plan.add(checkpoint, "big", target.destination(device), {.slice = {0, begin, end}}));
    LoadHooks world = hooks != nullptr ? *hooks : LoadHooks();
    if (!world.now_ns) world.now_ns = [] { return std::uint64_t{0}; };
    world.check_on_arrival = true;
    Result<LoadReport> report = load_with_hooks(plan, options, world);
    if (report) {
      EXPECT_TRUE(target.bytes() == slice_of(tensors[1], 0, begin, end));
    }
    EXPECT_TRUE(target.border_is_whole());
    return report;
  }
};

TEST(LoadArrival, HashesChunksBeforeTheReadEnds) {
  FakeDevice fake;
  for (Device* device : {static_cast<Device*>(nullptr), static_cast<Device*>(&fake)}) {
    Far far;
    std::vector<std::uint64_t> arrived;  // as each chunk is hashed
    LoadHooks hooks;
    hooks.hash = [&](std::span<const std::byte> bytes) {
      arrived.push_back(far.source->arrived);
      return xxh3(bytes);
    };
    ASSERT_OK(far.load_slice(0, kBig, {.threads = 1}, device, &hooks));
    ASSERT_EQ(arrived.size(), 10u);
    EXPECT_EQ(arrived[0], 1 + 100'000 + kChunk);
    EXPECT_LT(arrived[6], kBig);
    EXPECT_EQ(arrived[9], kBig);
    EXPECT_EQ(far.source->reads, 1u);
  }
}

TEST(LoadArrival, IsRightHoweverTheBytesArrive) {
  FakeDevice fake;
  for (const std::vector<std::size_t>& pieces : std::vector<std::vector<std::size_t>>{
           {kChunk}, {kChunk - 1}, {3, 2 * kChunk + 1}, {std::size_t{1} << 30}, {77'777}}) {
    for (Device* device : {static_cast<Device*>(nullptr), static_cast<Device*>(&fake)}) {
      Far far;
      far.source->pieces = pieces;
      const auto whole = far.load_slice(0, kBig, {}, device);
      ASSERT_OK(whole);
      EXPECT_EQ(whole->chunks_verified, 10u);
      EXPECT_EQ(whole->bytes_verified, kBig);
      EXPECT_EQ(whole->chunks_reread, 0u);
      const auto slice = far.load_slice(kChunk - 1, 3 * kChunk + 1, {}, device);
      ASSERT_OK(slice);
      EXPECT_EQ(slice->chunks_verified, 4u);
    }
  }
}

// Two tensors that share a chunk's worth of a job, and two destinations for the same bytes.
TEST(LoadArrival, IsRightForSeveralTransfersOfAJob) {
  Far far;
  Target small(1000), big(kBig), again(kBig - 5);
  LoadPlan plan;
  ASSERT_OK(plan.add(far.checkpoint, "small", small.destination()));
  ASSERT_OK(plan.add(far.checkpoint, "big", big.destination()));
  ASSERT_OK(plan.add(far.checkpoint, "big", again.destination(), {.slice = {0, 5, kBig}}));
  LoadHooks hooks;
  hooks.now_ns = [] { return std::uint64_t{0}; };
  hooks.check_on_arrival = true;
  ASSERT_OK(load_with_hooks(plan, {}, hooks));
  EXPECT_TRUE(small.bytes() == far.tensors[0].bytes);
  EXPECT_TRUE(big.bytes() == far.tensors[1].bytes);
  EXPECT_TRUE(again.bytes() == far.tensors[1].bytes.substr(5));
}

TEST(LoadArrival, ReadsADamagedChunkAgainAfterTheRead) {
  FakeDevice fake;
  for (Device* device : {static_cast<Device*>(nullptr), static_cast<Device*>(&fake)}) {
    for (int times = 0; times <= 3; ++times) {
      Far far;
      far.source->damaged_at = far.place + 4 * kChunk + 7;
      far.source->times = times;
      const auto report = far.load_slice(0, kBig, {}, device);
      ASSERT_OK(report);
      EXPECT_EQ(report->chunks_reread, static_cast<std::uint64_t>(times));
      EXPECT_EQ(report->chunks_verified, 10u);
      EXPECT_EQ(report->bytes_verified, kBig);
      EXPECT_EQ(far.source->rereads, times);
    }
  }
}

TEST(LoadArrival, NamesAChunkThatStaysDamaged) {
  Far far;
  far.source->damaged_at = far.place + 4 * kChunk + 7;
  far.source->times = 1000;
  const auto report = far.load_slice(0, kBig, {});
  EXPECT_ERROR(report, chunk_corrupt);
  EXPECT_NE(report.error().message.find("tensor 'big': chunk 4"), std::string::npos)
      << report.error().message;
  EXPECT_EQ(far.source->rereads, 3);
}

// Whether the chunk is damaged is not known then.
TEST(LoadArrival, NamesARereadThatFails) {
  Far far;
  far.source->damaged_at = far.place + 4 * kChunk + 7;
  far.source->times = 1;
  far.source->fail_rereads = true;
  EXPECT_ERROR(far.load_slice(0, kBig, {}), io_error);
  EXPECT_EQ(far.source->rereads, 1);
}

TEST(LoadArrival, EndsAReadThatIsUnderWayWhenCancelled) {
  FakeDevice fake;
  for (Device* device : {static_cast<Device*>(nullptr), static_cast<Device*>(&fake)}) {
    Far far;
    std::atomic<bool> cancel = false;
    far.source->after_piece = [&] { cancel = far.source->arrived > 2 * kChunk; };
    const auto report = far.load_slice(0, kBig, {.cancel = &cancel}, device);
    EXPECT_ERROR(report, cancelled);
    EXPECT_TRUE(report.error().message.starts_with("interrupted at ")) << report.error().message;
    EXPECT_LT(far.source->arrived, kBig);
  }
}

TEST(LoadArrival, NamesAReadThatFailsHalfway) {
  Far far;
  far.source->fail_at = far.place + 5 * kChunk;
  FakeDevice fake;
  for (Device* const device : {static_cast<Device*>(nullptr), static_cast<Device*>(&fake)}) {
    const auto report = far.load_slice(0, kBig, {}, device);
    EXPECT_ERROR(report, io_error);
    EXPECT_NE(report.error().message.find("the line went dead"), std::string::npos)
        << report.error().message;
  }
  EXPECT_EQ(far.source->rereads, 0);
}

TEST(LoadArrival, LeavesTheHashingToReadersThatHaveProcessorsOfTheirOwn) {
  Far far;
  Target target(kBig);
  LoadPlan plan;
  ASSERT_OK(plan.add(far.checkpoint, "big", target.destination()));
  LoadHooks hooks;
  hooks.now_ns = [] { return std::uint64_t{0}; };
  hooks.check_on_arrival = false;
  const auto report = load_with_hooks(plan, {}, hooks);
  ASSERT_OK(report);
  EXPECT_EQ(report->chunks_verified, 10u);
  EXPECT_EQ(far.source->reads, 0u);
}

TEST(LoadArrival, AsksForNoProgressWhereNothingIsChecked) {
  Far far;
  EXPECT_OK(far.load_slice(0, kBig, {.verify = Verify::no}));
  EXPECT_EQ(far.source->reads, 0u);
  Far unsealed(false);
  EXPECT_OK(unsealed.load_slice(0, kBig, {}));
  EXPECT_EQ(unsealed.source->reads, 0u);
}

// The time in which chunks are hashed is not that of the read around it.
TEST(LoadArrival, CountsTheTimesOfReadingAndHashingApart) {
  Far far;
  std::atomic<std::uint64_t> now = 0;
  far.source->after_piece = [&] { now += 1'000'000'000; };
  far.source->pieces = {kChunk};
  LoadHooks hooks;
  hooks.now_ns = [&] { return now.load(); };
  hooks.hash = [&](std::span<const std::byte> bytes) {
    now += 5'000'000'000;
    return xxh3(bytes);
  };
  const auto report = far.load_slice(0, kBig, {.threads = 1}, nullptr, &hooks);
  ASSERT_OK(report);
  EXPECT_DOUBLE_EQ(report->read_seconds, 10);
  EXPECT_DOUBLE_EQ(report->hash_seconds, 50);
}

}  // namespace
}  // namespace flatbed
