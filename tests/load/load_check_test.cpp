// LoadPlan::check(): overlaps, devices, budgets, and the figures of LoadPlanReport.
#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "flatbed/load.hpp"
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
using test::TempDir;
using test::write_model;

constexpr std::uint64_t kBig = 3 * kChunk + 100;

// "w" and "x" of 10 rows of 16 bytes, "big" of 3 chunks and 100 bytes; and memory for them.
struct Example {
  TempDir dir;
  std::vector<ModelTensor> tensors{
      {"w", Dtype::u8, {10, 16}}, {"x", Dtype::u8, {10, 16}}, {"big", Dtype::u8, {kBig}}};
  Checkpoint checkpoint;
  std::vector<std::byte> memory = std::vector<std::byte>(4 << 20);
  FakeDevice device;
  LoadPlan plan;

  explicit Example(bool seal = true) : checkpoint(write(seal)) {}
  Checkpoint write(bool seal) {
    fill(tensors);
    return write_model(dir / "a.safetensors", tensors, seal);
  }
  void add(std::string_view name, std::size_t at, const LoadItem& item = {}, Device* to = nullptr,
           std::uint64_t row_pitch = 0) {
    EXPECT_OK(
        plan.add(checkpoint, name, {to, memory.data() + at, memory.size() - at, row_pitch}, item));
  }
  void add_rows(std::string_view name, std::size_t at, std::uint64_t row_pitch) {
    add(name, at, {}, nullptr, row_pitch);
  }
};

TEST(LoadCheck, RefusesDestinationsThatShareOneByte) {
  Example a;
  a.add("w", 0);
  a.add("x", 160);
  EXPECT_OK(a.plan.check());
  a.add("big", 319);
  const Result<LoadPlanReport> report = a.plan.check();
  EXPECT_ERROR(report, destination_overlap);
  EXPECT_NE(
      report.error().message.find(
          "a.safetensors: tensor 'big': the destination shares bytes with that of tensor 'x'"),
      std::string::npos)
      << report.error().message;
  EXPECT_ERROR(load(a.plan), destination_overlap);
}

TEST(LoadCheck, RefusesTheSameTensorTwiceInOnePlace) {
  Example a;
  a.add("w", 64);
  EXPECT_OK(a.plan.check());
  a.add("w", 64);
  EXPECT_ERROR(a.plan.check(), destination_overlap);
}

TEST(LoadCheck, FindsADestinationWithinAnother) {
  Example a;
  a.add("big", 1000);
  a.add("w", 1000 + kBig - 160);
  EXPECT_ERROR(a.plan.check(), destination_overlap);
  Example b;
  b.add("big", 1000);
  b.add("x", 1000 + kBig);
  b.add("w", 840);
  EXPECT_OK(b.plan.check());
}

TEST(LoadCheck, KnowsColumnsOfOneMatrixApart) {
  for (const std::size_t second : {16U, 17U, 47U, 48U, 49U}) {  // of 64 bytes a row
    Example a;
    a.add_rows("w", 0, 64);
    a.add_rows("x", second, 64);
    EXPECT_EQ(a.plan.check().has_value(), second <= 48) << second;
    Example b;
    b.add_rows("w", second, 64);
    b.add_rows("x", 0, 64);
    EXPECT_EQ(b.plan.check().has_value(), second <= 48) << second;
  }
  Example c;
  c.add_rows("w", 0, 64);
  c.add_rows("x", 15, 64);
  EXPECT_ERROR(c.plan.check(), destination_overlap);
}

// The second begins rows below the first, in its columns or beside them.
TEST(LoadCheck, KnowsShiftedColumnsApart) {
  for (const std::size_t column : {0U, 15U, 16U, 40U, 48U, 49U, 63U}) {
    Example a;
    a.add_rows("w", 0, 64);
    a.add_rows("x", 64 * 5 + column, 64);
    EXPECT_EQ(a.plan.check().has_value(), column >= 16 && column <= 48) << column;
    Example below;
    below.add_rows("w", 0, 64);
    below.add_rows("x", 64 * 9 + 16 + column, 64);  // after the last byte of the first
    EXPECT_OK(below.plan.check());
  }
}

// Rows of the one at 0, 64, ..., of the other at 16, 16 + 80, ...: the fourth ones meet.
TEST(LoadCheck, ComparesRowsOfDifferentPitches) {
  Example a;
  a.add_rows("w", 0, 64);
  a.add_rows("x", 16, 80);
  EXPECT_ERROR(a.plan.check(), destination_overlap);
  Example b;
  b.add_rows("w", 0, 64);
  b.add_rows("x", 16, 128);
  EXPECT_OK(b.plan.check());
  Example c;  // a packed one in the gap between two rows, and one byte too far
  c.add_rows("w", 0, 200);
  c.add("x", 16);
  EXPECT_OK(c.plan.check());
  Example d;
  d.add_rows("w", 0, 200);
  d.add("x", 41);
  EXPECT_ERROR(d.plan.check(), destination_overlap);
}

// Unified addressing: memory has one owner, whatever the plan says of it.
TEST(LoadCheck, ComparesDestinationsOfDifferentDevices) {
  Example a;
  FakeDevice other("other");
  a.add("w", 0, {}, &a.device);
  a.add("x", 160, {}, &other);
  EXPECT_OK(a.plan.check());
  a.add("w", 319, {}, &other);
  EXPECT_ERROR(a.plan.check(), destination_overlap);
}

TEST(LoadCheck, LeavesOutDestinationsWhereNothingArrives) {
  Example a;
  a.add("w", 0);
  a.add("x", 0, {.slice = {0, 4, 4}}, &a.device);
  a.device.faults.check = 1;
  EXPECT_OK(a.plan.check());
}

TEST(LoadCheck, AsksTheDevicesForTheirMemory) {
  Example a;
  a.add("w", 0, {}, &a.device);
  a.add("x", 160, {}, &a.device);
  a.device.faults.check = 2;
  const Result<LoadPlanReport> report = a.plan.check();
  EXPECT_ERROR(report, destination_invalid);
  EXPECT_NE(report.error().message.find("a.safetensors: tensor 'x': fake"), std::string::npos)
      << report.error().message;
  a.device.faults.check = 3;
  EXPECT_ERROR(load(a.plan), destination_invalid);
  EXPECT_OK(load(a.plan));
}

TEST(LoadCheck, RefusesFewerThanTwoSlots) {
  Example a;
  a.add("w", 0, {}, &a.device);
  EXPECT_OK(a.plan.check({.staging_nbytes = 1 << 20}));
  EXPECT_ERROR(a.plan.check({.staging_nbytes = (1 << 20) - 1}), budget_too_small);
  EXPECT_OK(a.plan.check({.staging_nbytes = 4 << 20, .slot_nbytes = 2 << 20}));
  EXPECT_ERROR(a.plan.check({.staging_nbytes = (4 << 20) - 1, .slot_nbytes = 2 << 20}),
               budget_too_small);
  EXPECT_ERROR(load(a.plan, {.staging_nbytes = 0}), budget_too_small);
}

TEST(LoadCheck, RefusesSlotsOfOddSizes) {
  Example a;
  a.add("w", 0, {}, &a.device);
  EXPECT_OK(a.plan.check({.slot_nbytes = 512 << 10}));
  EXPECT_ERROR(a.plan.check({.slot_nbytes = (512 << 10) - 4096}), invalid_argument);
  EXPECT_ERROR(a.plan.check({.slot_nbytes = (1 << 20) + 512}), invalid_argument);
  EXPECT_OK(a.plan.check({.staging_nbytes = 2ULL << 30, .slot_nbytes = 1 << 30}));
  EXPECT_ERROR(a.plan.check({.staging_nbytes = 8ULL << 30, .slot_nbytes = (1ULL << 30) + 4096}),
               invalid_argument);
  EXPECT_ERROR(a.plan.check({.staging_nbytes = ~std::uint64_t{0}}), invalid_argument);
}

TEST(LoadCheck, RefusesAPoolOfTheHostForADevice) {
  Example a;
  const std::unique_ptr<Device> host = host_device();
  const auto of_host =
      StagingPool::create(*host, {.staging_nbytes = 1 << 20, .slot_nbytes = 1 << 19});
  const auto of_device =
      StagingPool::create(a.device, {.staging_nbytes = 1 << 20, .slot_nbytes = 1 << 19});
  ASSERT_OK(of_host);
  ASSERT_OK(of_device);
  a.add("w", 0);
  EXPECT_OK(a.plan.check({.pool = of_host->get()}));
  a.add("x", 160, {}, &a.device);
  EXPECT_ERROR(a.plan.check({.pool = of_host->get()}), invalid_argument);
  EXPECT_OK(a.plan.check({.pool = of_device->get()}));
}

TEST(LoadCheck, SaysWhatASliceOfASealedTensorCosts) {
  Example a;
  // Bytes [chunk 0's last, chunk 2's first]: all of three chunks are read.
  a.add("big", 0, {.slice = {0, kChunk - 1, 2 * kChunk + 1}});
  const Result<LoadPlanReport> report = a.plan.check();
  ASSERT_OK(report);
  EXPECT_EQ(report->bytes_wanted, kChunk + 2);
  EXPECT_EQ(report->bytes_to_read, 3 * kChunk);
  EXPECT_EQ(a.plan.check({.verify = Verify::no}).value().bytes_to_read, kChunk + 2);
  Example b;  // the last chunk has 100 bytes
  b.add("big", 0, {.slice = {0, kBig - 1, kBig}});
  EXPECT_EQ(b.plan.check().value().bytes_wanted, 1u);
  EXPECT_EQ(b.plan.check().value().bytes_to_read, 100u);
}

TEST(LoadCheck, SaysWhatASliceOfAnUnsealedTensorCosts) {
  Example a(false);
  a.add("big", 0, {.slice = {0, kChunk - 1, 2 * kChunk + 1}});
  EXPECT_EQ(a.plan.check().value().bytes_to_read, kChunk + 2);
  Example b(false);  // columns: what lies between them is read, but nothing before or after
  b.add("w", 0, {.slice = {1, 4, 8}});
  const LoadPlanReport report = b.plan.check().value();
  EXPECT_EQ(report.bytes_wanted, 40u);
  EXPECT_EQ(report.bytes_to_read, 9u * 16 + 4);
  EXPECT_EQ(report.reads, 1u);
}

TEST(LoadCheck, CountsTwiceWhatArrivesTwice) {
  Example a;
  a.add("big", 0);
  a.add("big", 1 << 20);
  const LoadPlanReport report = a.plan.check().value();
  EXPECT_EQ(report.bytes_wanted, 2 * kBig);
  EXPECT_EQ(report.bytes_to_read, kBig);
}

TEST(LoadCheck, CountsGroupsEvenWhereNothingArrives) {
  Example a;
  a.add("w", 0, {.group = {1, 0}});
  a.add("x", 160, {.group = {9, 0}});
  a.add("x", 320, {.group = {1, 0}});
  a.add("w", 480, {.slice = {0, 3, 3}, .group = {5, 0}});
  EXPECT_EQ(a.plan.check().value().groups, 3u);
  EXPECT_EQ(LoadPlan().check().value().groups, 0u);
}

TEST(LoadCheck, ListsFilesInTheOrderOfTheirFirstUse) {
  const TempDir dir;
  std::vector<ModelTensor> tensors{{"w", Dtype::u8, {100}}};
  fill(tensors);
  std::vector<std::byte> memory(300);
  LoadPlan plan;
  const auto add = [&](const char* name, std::size_t at, std::int32_t priority) {
    const auto id = static_cast<std::uint32_t>(at);
    EXPECT_OK(plan.add(write_model(dir / name, tensors), "w", {nullptr, memory.data() + at, 100, 0},
                       {.group = {id, priority}}));
  };
  add("first", 0, 3);
  add("second", 100, 1);
  add("third", 200, 2);
  const LoadPlanReport report = plan.check().value();
  ASSERT_EQ(report.files.size(), 3u);
  EXPECT_EQ(report.files[0].filename(), "second");
  EXPECT_EQ(report.files[1].filename(), "third");
  EXPECT_EQ(report.files[2].filename(), "first");
  EXPECT_EQ(report.reads, 3u);
}

TEST(LoadCheck, NeedsStagingMemoryForDevicesAlone) {
  Example a;
  a.add("w", 0);
  EXPECT_EQ(a.plan.check({.io = IoMode::buffered}).value().peak_staging_nbytes, 0u);
  a.add("x", 160, {}, &a.device);
  // Rounded down to whole slots.
  EXPECT_EQ(
      a.plan.check({.staging_nbytes = 5 << 20, .slot_nbytes = 2 << 20}).value().peak_staging_nbytes,
      4u << 20);
}

}  // namespace
}  // namespace flatbed
