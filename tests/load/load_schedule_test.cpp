// make_schedule(): what is read together, where jobs end, and what slices cost.
#include "load/load_schedule.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/str_cat.hpp"
#include "support/bytes_source.hpp"
#include "support/expect_error.hpp"
#include "support/fake_device.hpp"
#include "support/load_model.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::BytesSource;
using test::FakeDevice;
using test::fill;
using test::kChunk;
using test::ModelTensor;
using test::TempDir;
using test::write_model;

// A sealed model, and a plan of it that is never carried out: its destinations are addresses of
// nothing, each after the previous one.
struct Example {
  TempDir dir;
  std::vector<ModelTensor> tensors;
  Checkpoint checkpoint;
  FakeDevice device;
  LoadPlan plan;
  std::uintptr_t next = std::uintptr_t{1} << 40;

  explicit Example(std::vector<ModelTensor> wanted, bool seal = true)
      : tensors(std::move(wanted)), checkpoint(write(seal)) {}
  Checkpoint write(bool seal) {
    fill(tensors);
    return write_model(dir / "a", tensors, seal);
  }
  void add(std::string_view name, const Slice& slice = {}, const Group& group = {},
           Device* to = nullptr) {
    const std::uint64_t nbytes = checkpoint.find(name)->nbytes;
    EXPECT_OK(plan.add(checkpoint, name, {to, reinterpret_cast<void*>(next), nbytes, 0},
                       {.slice = slice, .group = group}));
    next += (nbytes + 4095) / 4096 * 4096;
  }
  // All of a tensor of another file.
  void add_from(const Example& other, std::string_view name) {
    const std::uint64_t nbytes = other.checkpoint.find(name)->nbytes;
    EXPECT_OK(plan.add(other.checkpoint, name, {nullptr, reinterpret_cast<void*>(next), nbytes}));
    next += (nbytes + 4095) / 4096 * 4096;
  }
  [[nodiscard]] std::uint64_t offset(std::string_view name) const {
    return checkpoint.find(name)->where.offset;
  }
  [[nodiscard]] Schedule schedule(const ScheduleOptions& options = {.io = IoMode::buffered}) const {
    return make_schedule(LoadPlanAccess::state(plan), options);
  }
};

class PreferringSource final : public BytesSource {
 public:
  PreferringSource(std::string bytes, std::size_t preferred)
      : BytesSource(std::move(bytes)), preferred_(preferred) {}
  [[nodiscard]] std::size_t preferred_read_nbytes() const noexcept override { return preferred_; }

 private:
  std::size_t preferred_;
};

TEST(LoadSchedule, ReadsThroughSmallHoles) {
  for (const IoMode io : {IoMode::buffered, IoMode::direct}) {
    const std::uint64_t most = io == IoMode::direct ? 32 << 10 : 4 << 10;
    for (const std::uint64_t hole : {most, most + 1}) {
      Example a({{"t", Dtype::u8, {100'000}}}, false);
      a.add("t", {0, 0, 1000});
      a.add("t", {0, 1000 + hole, 2000 + hole});
      const Schedule schedule = a.schedule({.io = io});
      EXPECT_EQ(schedule.jobs.size(), hole == most ? 1u : 2u);
      EXPECT_EQ(schedule.bytes_to_read, 2000 + (hole == most ? hole : 0));
      EXPECT_EQ(schedule.bytes_wanted, 2000u);
    }
  }
}

TEST(LoadSchedule, ReadsLargerHolesOfColdFilesAndOfFarSources) {
  const BytesSource near("bytes");
  ScheduledFile file{.file = &near};
  EXPECT_EQ(hole_limit(file, IoMode::automatic), 4U << 10);
  EXPECT_EQ(hole_limit(file, IoMode::direct), 32U << 10);
  file.cold = true;
  EXPECT_EQ(hole_limit(file, IoMode::automatic), 16U << 10);
  EXPECT_EQ(hole_limit(file, IoMode::buffered), 16U << 10);
  const PreferringSource far("bytes", 8 << 20);
  file = {.file = &far, .read_nbytes = 8 << 20};
  EXPECT_EQ(hole_limit(file, IoMode::automatic), 128U << 10);
  file.read_nbytes = kReadNbytes / 32;  // no more than is read at once
  EXPECT_EQ(hole_limit(file, IoMode::automatic), 64U << 10);
}

TEST(LoadSchedule, ReadsAllOfAJobOfAFarSourceAtOnce) {
  std::vector<ModelTensor> tensors{{"t", Dtype::u8, {100'000}}};
  fill(tensors);
  const TempDir dir;
  write_model(dir / "a", tensors, true);
  const auto file_of = [&](std::size_t preferred) {
    const auto source = std::make_shared<PreferringSource>(test::read_file(dir / "a"), preferred);
    LoadPlan plan;
    EXPECT_OK(plan.add(Checkpoint::open(source).value(), "t",
                       {nullptr, reinterpret_cast<void*>(std::uintptr_t{1} << 40), 100'000}));
    return make_schedule(LoadPlanAccess::state(plan), {.io = IoMode::buffered}).files.at(0);
  };
  EXPECT_EQ(file_of((1 << 20) - 1).piece_nbytes, kPieceNbytes);
  EXPECT_EQ(file_of(1 << 20).piece_nbytes, kReadNbytes);
}

TEST(LoadSchedule, LeavesOutTheHolesBetweenColumns) {
  Example a({{"t", Dtype::u8, {100, 50'000}}, {"u", Dtype::u8, {100}}}, false);
  a.add("t", {1, 20'000, 21'000});
  a.add("u");
  Schedule schedule = a.schedule();
  ASSERT_EQ(schedule.jobs.size(), 4u);  // three of 2 MiB, and that of `u`
  EXPECT_TRUE(schedule.jobs[0].sparse);
  EXPECT_FALSE(schedule.jobs[3].sparse);
  EXPECT_EQ(schedule.jobs[0].begin, a.offset("t") + 20'000);
  EXPECT_EQ(schedule.jobs[0].read_nbytes, 42 * 1000U);
  EXPECT_EQ(schedule.jobs[0].nbytes, 41 * 50'000U + 1000U);
  EXPECT_EQ(schedule.bytes_to_read, 100'100U);

  // The other ranks' columns fill the holes.
  a.add("t", {1, 0, 20'000});
  EXPECT_TRUE(a.schedule().jobs[0].sparse);
  a.add("t", {1, 21'000, 50'000});
  schedule = a.schedule();
  EXPECT_FALSE(schedule.jobs[0].sparse);
  EXPECT_EQ(schedule.bytes_to_read, 5'000'100U);
}

// What lies between the first and the last byte of one column is also between those of the other.
TEST(LoadSchedule, ColumnsOverlapOnlyWhereTheyShareBytes) {
  Example a({{"t", Dtype::u8, {20, 50'000}}, {"u", Dtype::u8, {20, 50'000}}}, false);
  a.add("t", {1, 20'000, 21'000});
  a.add("t", {1, 30'000, 31'000});
  ASSERT_TRUE(a.schedule().jobs[0].sparse);
  EXPECT_FALSE(a.schedule().jobs[0].overlapping);
  a.add("t", {1, 30'999, 31'001});
  a.add("u", {1, 0, 1000});
  const Schedule schedule = a.schedule();
  ASSERT_EQ(schedule.jobs.size(), 2u);
  EXPECT_TRUE(schedule.jobs[0].sparse);
  EXPECT_TRUE(schedule.jobs[0].overlapping);
  EXPECT_TRUE(schedule.jobs[1].sparse);
  EXPECT_FALSE(schedule.jobs[1].overlapping);
}

// Of tensors that are cast, a hole of 64 KiB costs more than a read, and less than a chunk that is
// read twice.
TEST(LoadSchedule, ReadsThroughTheHolesOfCastColumnsOnlyWhereTheyAreChecked) {
  for (const bool seal : {true, false}) {
    for (const bool verify : {true, false}) {
      Example a({{"t", Dtype::f32, {8, 32'768}}}, seal);
      ASSERT_OK(a.plan.add(a.checkpoint, "t",
                           {nullptr, reinterpret_cast<void*>(a.next), std::uint64_t{1} << 20},
                           {.slice = {1, 0, 16'384}, .as = Dtype::bf16}));
      const Schedule schedule = a.schedule({.verify = verify, .io = IoMode::buffered});
      ASSERT_FALSE(schedule.jobs.empty());
      EXPECT_EQ(schedule.jobs[0].sparse, !(seal && verify)) << seal << verify;
    }
  }
}

TEST(LoadSchedule, WidensToChunksWhereTheyAreChecked) {
  Example a({{"t", Dtype::u8, {3 * kChunk + 10}}});
  a.add("t", {0, kChunk + 1, kChunk + 2});
  const Schedule checked = a.schedule();
  ASSERT_EQ(checked.jobs.size(), 1u);
  EXPECT_EQ(checked.jobs[0].begin, a.offset("t") + kChunk);
  EXPECT_EQ(checked.jobs[0].nbytes, kChunk);
  const Schedule unchecked = a.schedule({.verify = false, .io = IoMode::buffered});
  ASSERT_EQ(unchecked.jobs.size(), 1u);
  EXPECT_EQ(unchecked.jobs[0].begin, a.offset("t") + kChunk + 1);
  EXPECT_EQ(unchecked.jobs[0].nbytes, 1u);
}

// Four rows of 1 MiB.
TEST(LoadSchedule, LeavesOutTheChunksBetweenColumnsThatAreChecked) {
  Example a({{"t", Dtype::u8, {4, 4 * kChunk}}});
  a.add("t", {1, kChunk, kChunk + 1});
  const Schedule schedule = a.schedule();
  EXPECT_EQ(schedule.bytes_to_read, 4 * kChunk);
  ASSERT_EQ(schedule.jobs.size(), 4u);
  EXPECT_EQ(schedule.jobs[3].begin, a.offset("t") + 13 * kChunk);
}

TEST(LoadSchedule, CountsEverySpanOfAFile) {
  Example a({{"t", Dtype::u8, {100'000}}}, false);
  a.add("t", {0, 0, 1000});
  a.add("t", {0, 50'000, 52'000});
  const Schedule schedule = a.schedule();
  ASSERT_EQ(schedule.files.size(), 1u);
  EXPECT_EQ(schedule.files[0].span_count, 2u);
  EXPECT_EQ(schedule.files[0].nbytes, 3000u);
}

TEST(LoadSchedule, DecidesForEachFileHowToReadIt) {
  Example a({{"t", Dtype::u8, {9 << 20}}}, false);
  const Example b({{"t", Dtype::u8, {9 << 20}}}, false);
  a.add("t");
  a.add_from(b, "t");
  const auto is_b = [&](const ByteSource& file) { return file.label() == b.dir / "a"; };
  const auto is_any = [](const ByteSource&) { return true; };
  struct Way {
    IoMode io;
    std::function<bool(const ByteSource&)> is_cold;
    bool direct[2];
    std::uint64_t hole_kib[2];
  };
  for (const Way& way : {Way{IoMode::automatic, is_b, {false, true}, {4, 16}},
                         Way{IoMode::automatic, is_any, {true, true}, {16, 16}},
                         Way{IoMode::direct, is_any, {true, true}, {32, 32}},
                         Way{IoMode::buffered, is_any, {false, false}, {4, 4}}}) {
    const Schedule schedule = a.schedule({.io = way.io, .is_cold = way.is_cold});
    ASSERT_EQ(schedule.files.size(), 2u);
    for (const std::size_t i : {0U, 1U}) {
      EXPECT_EQ(schedule.files[i].direct, way.direct[i]) << i;
      EXPECT_EQ(schedule.files[i].max_hole_nbytes, way.hole_kib[i] << 10) << i;
    }
  }
}

// It takes calls of the kernel.
TEST(LoadSchedule, AsksWhetherAFileIsCachedOnlyWhereThatDecides) {
  Example large({{"t", Dtype::u8, {9 << 20}}}, false);
  large.add("t");
  Example small({{"t", Dtype::u8, {100, 10'000}}}, false);
  small.add("t");
  Example narrow({{"t", Dtype::u8, {100, 2'000}}}, false);
  narrow.add("t", {1, 0, 1000});
  Example wide({{"t", Dtype::u8, {100, 10'000}}}, false);
  wide.add("t", {1, 0, 1000});
  const auto asks = [](const Example& example, IoMode io) {
    int count = 0;
    const auto counting = [&](const ByteSource&) {
      ++count;
      return false;
    };
    static_cast<void>(example.schedule({.io = io, .is_cold = counting}));
    return count;
  };
  EXPECT_EQ(asks(large, IoMode::automatic), 1);  // whether to read past the page cache
  EXPECT_EQ(asks(small, IoMode::automatic), 0);
  EXPECT_EQ(asks(wide, IoMode::automatic), 1);    // which holes to read
  EXPECT_EQ(asks(narrow, IoMode::automatic), 0);  // these are read in any case
  EXPECT_EQ(asks(large, IoMode::buffered), 0);
  EXPECT_EQ(asks(wide, IoMode::buffered), 1);
  EXPECT_EQ(asks(large, IoMode::direct), 0);
  EXPECT_EQ(asks(wide, IoMode::direct), 0);
}

TEST(LoadSchedule, WidensTheLastChunkToTheEndOfTheTensor) {
  Example a({{"t", Dtype::u8, {3 * kChunk + 10}}, {"u", Dtype::u8, {100}}});
  a.add("t", {0, 3 * kChunk + 9, Slice::kEnd});
  const Schedule schedule = a.schedule();
  ASSERT_EQ(schedule.jobs.size(), 1u);
  EXPECT_EQ(schedule.jobs[0].begin, a.offset("t") + 3 * kChunk);
  EXPECT_EQ(schedule.jobs[0].nbytes, 10u);
}

TEST(LoadSchedule, ReadsOnceWhatGoesToTwoPlaces) {
  Example a({{"t", Dtype::u8, {1000}}});
  a.add("t");
  EXPECT_FALSE(a.schedule().jobs[0].overlapping);
  a.add("t");
  const Schedule schedule = a.schedule();
  ASSERT_EQ(schedule.jobs.size(), 1u);
  EXPECT_TRUE(schedule.jobs[0].overlapping);
  EXPECT_EQ(schedule.jobs[0].parts, 2u);
  EXPECT_EQ(schedule.bytes_to_read, 1000u);
}

TEST(LoadSchedule, NeighboursDoNotOverlap) {
  Example a({{"t", Dtype::u8, {1024}}, {"u", Dtype::u8, {512}}});
  a.add("u");
  a.add("t");
  const Schedule schedule = a.schedule();
  ASSERT_EQ(schedule.jobs.size(), 1u);
  EXPECT_FALSE(schedule.jobs[0].overlapping);
  EXPECT_EQ(schedule.jobs[0].nbytes, 1536u);
}

TEST(LoadSchedule, OrdersJobsByPriorityThenPlace) {
  Example a(
      {{"a", Dtype::u8, {100'000}}, {"b", Dtype::u8, {100'000}}, {"c", Dtype::u8, {100'000}}});
  a.add("a", {}, {30, 1});
  a.add("c", {}, {20, 0});
  a.add("b", {}, {10, 1});
  a.add("b", {}, {20, 0});
  const Schedule schedule = a.schedule();
  const std::vector<std::pair<std::uint32_t, std::uint64_t>> wanted{
      {1, a.offset("b")}, {2, a.offset("b")}, {0, a.offset("a")}};
  std::vector<std::pair<std::uint32_t, std::uint64_t>> found;
  for (const Job& job : schedule.jobs) found.emplace_back(job.group, job.begin);
  EXPECT_EQ(found, wanted);
  EXPECT_EQ(schedule.groups, (std::vector<std::uint32_t>{1, 2, 0}));
  EXPECT_EQ(schedule.jobs_of_group, (std::vector<std::uint32_t>{1, 1, 1}));
}

TEST(LoadSchedule, TakesSlotsForDevicesAlone) {
  Example a({{"a", Dtype::u8, {100'000}}, {"b", Dtype::u8, {3 << 20}}});
  a.add("a");
  EXPECT_EQ(a.schedule().slot_jobs, 0u);
  a.add("b", {}, {1, 0}, &a.device);
  const Schedule schedule = a.schedule();
  EXPECT_GT(schedule.slot_jobs, 0u);
  ASSERT_EQ(schedule.jobs.size(), 2u);
  EXPECT_EQ(schedule.jobs[0].kind, JobKind::in_place);
  EXPECT_EQ(schedule.jobs[1].kind, JobKind::staged);
}

TEST(LoadSchedule, ReadsDirectlyIntoPlaceWhatIsAlignedAlike) {
  Example a({{"t", Dtype::u8, {1 << 20}}});
  const std::uint64_t lies = a.offset("t") % 4096;
  for (const std::uint64_t shift : {lies, (lies + 64) % 4096}) {
    LoadPlan plan;
    ASSERT_OK(plan.add(a.checkpoint, "t",
                       {nullptr, reinterpret_cast<void*>(a.next + shift), 1 << 20, 0}));
    const Schedule schedule = make_schedule(LoadPlanAccess::state(plan), {.io = IoMode::direct});
    ASSERT_EQ(schedule.jobs.size(), 1u);
    EXPECT_EQ(schedule.jobs[0].kind, shift == lies ? JobKind::in_place : JobKind::staged);
  }
}

// As tensors lie in memory that was allocated for all of them.
TEST(LoadSchedule, ReadsNeighboursDirectlyIntoPlaceIfTheyAreNeighboursThereToo) {
  Example a({{"t", Dtype::u8, {1 << 20}}, {"u", Dtype::u8, {4096}}, {"v", Dtype::u8, {1 << 20}}});
  const std::uint64_t lies = a.offset("t");
  ASSERT_EQ(a.offset("v"), lies + (1 << 20) + 4096);
  for (const std::uint64_t shift : {0U, 4096U}) {
    LoadPlan plan;
    for (const ModelTensor& tensor : a.tensors) {
      const std::uint64_t moved = tensor.name == "v" ? shift : 0;
      void* const at =
          reinterpret_cast<void*>(a.next + lies % 4096 + a.offset(tensor.name) - lies + moved);
      ASSERT_OK(plan.add(a.checkpoint, tensor.name, {nullptr, at, tensor.shape[0], 0}));
    }
    const Schedule schedule = make_schedule(LoadPlanAccess::state(plan), {.io = IoMode::direct});
    ASSERT_EQ(schedule.jobs.size(), 1u);
    EXPECT_EQ(schedule.jobs[0].kind, shift == 0 ? JobKind::in_place : JobKind::staged);
  }
}

// ---- every plan ---------------------------------------------------------------------------------

struct Random {
  std::mt19937 engine;
  std::uint64_t up_to(std::uint64_t most) {
    return std::uniform_int_distribution<std::uint64_t>(0, most)(engine);
  }
};

// Several tensors from a few bytes to several chunks, and slices of them in a few groups.
void add_randomly(Example& a, Random& random) {
  const std::uint64_t count = 1 + random.up_to(11);
  for (std::uint64_t i = 0; i < count; ++i) {
    const ModelTensor& tensor = a.tensors[random.up_to(a.tensors.size() - 1)];
    Slice slice;
    slice.dim = random.up_to(tensor.shape.size() - 1);
    const std::uint64_t size = tensor.shape[slice.dim];
    slice.begin = random.up_to(size);
    slice.end = slice.begin + random.up_to(size - slice.begin);
    if (random.up_to(3) == 0) slice = {};
    const auto group = static_cast<std::uint32_t>(random.up_to(3));
    a.add(tensor.name, slice, {group, 5 - static_cast<std::int32_t>(group)},
          random.up_to(2) == 0 ? &a.device : nullptr);
  }
}

// Marks what of a transfer's bytes the parts hold, and counts what they hold beside.
void expect_parts_hold(const Example& a, const Schedule& schedule, std::uint32_t number) {
  const Transfer& transfer = LoadPlanAccess::state(a.plan).transfers[number];
  std::vector<unsigned char> held(transfer.tensor->nbytes);
  for (const Part& part : schedule.parts) {
    if (part.transfer != number) continue;
    for (std::uint64_t at = part.begin; at < part.end; ++at)
      ++held.at(at - transfer.tensor->where.offset);
  }
  for (std::uint64_t run = 0; run < transfer.runs; ++run) {
    const auto begin =
        held.begin() + static_cast<std::ptrdiff_t>(transfer.source + run * transfer.run_pitch);
    const auto end = begin + static_cast<std::ptrdiff_t>(transfer.run_nbytes);
    EXPECT_EQ(std::count(begin, end, 1), end - begin) << "transfer " << number;
  }
  EXPECT_EQ(std::ranges::count_if(held, [](unsigned char count) { return count > 1; }), 0);
}

void expect_whole_chunks(const Example& a, const Schedule& schedule) {
  for (const Part& part : schedule.parts) {
    const TensorInfo& tensor = *LoadPlanAccess::state(a.plan).transfers[part.transfer].tensor;
    EXPECT_EQ((part.begin - tensor.where.offset) % kChunk, 0u);
    const std::uint64_t end = part.end - tensor.where.offset;
    EXPECT_TRUE(end % kChunk == 0 || end == tensor.nbytes);
  }
}

void expect_jobs_fit(const Example& a, const Schedule& schedule, const ScheduleOptions& options) {
  std::uint64_t nbytes = 0;
  std::vector<std::uint32_t> jobs_of_group(schedule.groups.size());
  for (std::size_t i = 0; i < schedule.jobs.size(); ++i) {
    const Job& job = schedule.jobs[i];
    nbytes += job.read_nbytes;
    EXPECT_TRUE(job.sparse ? job.read_nbytes <= job.nbytes : job.read_nbytes == job.nbytes);
    ++jobs_of_group[job.group];
    const bool in_memory = job.kind == JobKind::in_place && !schedule.files[job.file].direct;
    const std::uint64_t room = in_memory ? kReadNbytes : options.slot_nbytes;
    EXPECT_GT(job.nbytes, 0u);
    EXPECT_LE(job.begin % kDirectAlignment + job.nbytes, room);
    EXPECT_GT(job.parts, 0u);
    for (std::uint32_t part = job.first_part; part < job.first_part + job.parts; ++part) {
      EXPECT_LE(job.begin, schedule.parts[part].begin);
      EXPECT_LT(schedule.parts[part].begin, schedule.parts[part].end);
      EXPECT_LE(schedule.parts[part].end, job.begin + job.nbytes);
    }
    if (i == 0) continue;
    const Job& before = schedule.jobs[i - 1];
    const auto& groups = LoadPlanAccess::state(a.plan).groups;
    EXPECT_LE(groups[before.group].priority, groups[job.group].priority);
    EXPECT_TRUE(before.group != job.group || before.begin + before.nbytes <= job.begin);
  }
  EXPECT_EQ(nbytes, schedule.bytes_to_read);
  EXPECT_EQ(jobs_of_group, schedule.jobs_of_group);
}

class EverySchedule : public testing::TestWithParam<std::uint32_t> {};

TEST_P(EverySchedule, HoldsWhatIsWantedOnceAndCutsNoChunk) {
  Random random{std::mt19937(GetParam())};
  std::vector<ModelTensor> tensors;
  for (int i = 0; i < 8; ++i) {
    std::vector<std::uint64_t> shape{1 + random.up_to(40)};
    shape.push_back(1 + random.up_to(random.up_to(1) == 0 ? 30 : 90'000));
    if (random.up_to(1) == 0) shape.insert(shape.begin(), 1 + random.up_to(2));
    tensors.push_back({str_cat("t", i), Dtype::u8, shape});
  }
  Example a(tensors, GetParam() % 4 != 0);
  for (int round = 0; round < 4; ++round) {
    a.plan = LoadPlan();
    add_randomly(a, random);
    const ScheduleOptions options{.verify = random.up_to(3) != 0,
                                  .io = random.up_to(1) == 0 ? IoMode::direct : IoMode::buffered,
                                  .slot_nbytes = (512 << 10) + 4096 * random.up_to(300)};
    const Schedule schedule = a.schedule(options);
    for (std::uint32_t i = 0; i < a.plan.size(); ++i) expect_parts_hold(a, schedule, i);
    if (options.verify && a.checkpoint.seal() == SealState::sealed)
      expect_whole_chunks(a, schedule);
    expect_jobs_fit(a, schedule, options);
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, EverySchedule, testing::Range(0U, 16U));

}  // namespace
}  // namespace flatbed
