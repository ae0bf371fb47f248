// load(): destinations with a pitch, several of one tensor, several devices.
#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
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
using test::slice_of;
using test::Target;
using test::TempDir;
using test::write_model;

struct Example {
  TempDir dir;
  std::vector<ModelTensor> tensors{{"cube", Dtype::u16, {20, 30, 500}},
                                   {"flat", Dtype::u8, {700'000}}};
  Checkpoint checkpoint = write();
  Checkpoint write() {
    fill(tensors);
    return write_model(dir / "a", tensors);
  }
};

// `bytes` in rows of `row`, `pitch` apart, the gaps as Target fills them.
std::string spread(std::string_view bytes, std::size_t row, std::size_t pitch) {
  std::string out;
  for (std::size_t at = 0; at < bytes.size(); at += row) {
    out.resize((out.size() + pitch - 1) / pitch * pitch, '\x5c');
    out += bytes.substr(at, row);
  }
  return out;
}

struct PitchedWay {
  bool on_device;
  Verify verify;
  IoMode io;
};

class LoadPitched : public testing::TestWithParam<PitchedWay> {};

TEST_P(LoadPitched, RowsArriveAndTheGapsStayAsTheyWere) {
  const PitchedWay way = GetParam();
  const Example a;
  const ModelTensor& cube = a.tensors[0];
  FakeDevice device;
  struct Wanted {
    std::size_t dim;
    std::uint64_t begin;
    std::uint64_t end;
    std::size_t row;
  };
  for (const Wanted& wanted :
       {Wanted{0, 0, 20, 1000}, Wanted{0, 3, 17, 1000}, Wanted{1, 11, 12, 1000},
        Wanted{1, 5, 30, 1000}, Wanted{2, 0, 250, 500}, Wanted{2, 499, 500, 2}}) {
    for (const std::size_t pitch : {wanted.row + 2, 4 * wanted.row}) {
      const std::string bytes =
          spread(slice_of(cube, wanted.dim, wanted.begin, wanted.end), wanted.row, pitch);
      Target target(bytes.size());
      Destination to = target.destination(way.on_device ? &device : nullptr);
      to.row_pitch = pitch;
      LoadPlan plan;
      ASSERT_OK(
          plan.add(a.checkpoint, "cube", to, {.slice = {wanted.dim, wanted.begin, wanted.end}}));
      ASSERT_OK(load(plan, {.verify = way.verify, .io = way.io, .staging_nbytes = 1 << 20}));
      EXPECT_TRUE(target.bytes() == bytes) << wanted.dim << " " << wanted.begin << " " << pitch;
      EXPECT_TRUE(target.border_is_whole());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Ways, LoadPitched,
                         testing::Values(PitchedWay{false, Verify::yes, IoMode::buffered},
                                         PitchedWay{false, Verify::no, IoMode::buffered},
                                         PitchedWay{false, Verify::yes, IoMode::direct},
                                         PitchedWay{true, Verify::yes, IoMode::buffered},
                                         PitchedWay{true, Verify::no, IoMode::direct}));

TEST(LoadDestinations, InterleavesColumnsOfOneMatrix) {
  const Example a;
  const ModelTensor& cube = a.tensors[0];
  for (const bool on_device : {false, true}) {
    FakeDevice device;
    Target target(20 * 30 * 1000);
    LoadPlan plan;
    // The two halves of the last dimension change places.
    for (const std::uint64_t half : {0U, 1U}) {
      ASSERT_OK(plan.add(a.checkpoint, "cube",
                         {on_device ? &device : nullptr, target.data() + 500 * (1 - half),
                          600'000 - 500 * (1 - half), 1000},
                         {.slice = {2, 250 * half, 250 * half + 250}}));
    }
    ASSERT_OK(load(plan, {.staging_nbytes = 1 << 20}));
    std::string wanted;
    for (std::size_t row = 0; row < cube.bytes.size(); row += 1000)
      wanted += cube.bytes.substr(row + 500, 500) + cube.bytes.substr(row, 500);
    EXPECT_TRUE(target.bytes() == wanted);
    EXPECT_TRUE(target.border_is_whole());
  }
}

TEST(LoadDestinations, BringsOneTensorToSeveralPlacesAndDevices) {
  const Example a;
  const std::string& flat = a.tensors[1].bytes;
  std::array<FakeDevice, 3> devices;
  std::deque<Target> targets;
  std::vector<std::string> wanted;
  LoadPlan plan;
  const auto add = [&](Device* device, const Slice& slice) {
    wanted.push_back(slice_of(a.tensors[1], 0, slice.begin, slice.end));
    targets.emplace_back(wanted.back().size(), targets.size());
    ASSERT_OK(plan.add(a.checkpoint, "flat", targets.back().destination(device), {.slice = slice}));
  };
  for (FakeDevice& device : devices) {
    add(&device, {0, 0, flat.size()});
    add(&device, {0, kChunk + 1, kChunk + 2});
    add(nullptr, {0, 5, 600'000});
  }
  add(nullptr, {0, 0, flat.size()});
  for (const IoMode io : {IoMode::buffered, IoMode::direct}) {
    const Result<LoadReport> report = load(plan, {.io = io, .staging_nbytes = 1 << 20});
    ASSERT_OK(report);
    for (std::size_t i = 0; i < targets.size(); ++i) {
      EXPECT_TRUE(targets[i].bytes() == wanted[i]) << i;
      EXPECT_TRUE(targets[i].border_is_whole()) << i;
    }
    // Read and hashed once, whatever the number of destinations.
    EXPECT_EQ(report->bytes_verified, flat.size());
    EXPECT_EQ(report->chunks_verified, 3u);
  }
  for (FakeDevice& device : devices) {
    EXPECT_EQ(device.pending(), 0u);
    EXPECT_EQ(device.open_tickets(), 0u);
    EXPECT_FALSE(device.freed_under_copy());
  }
}

TEST(LoadDestinations, TakesTheHostByEachOfItsNames) {
  const Example a;
  const std::unique_ptr<Device> host = host_device();
  Target one(700'000);
  Target two(700'000);
  LoadPlan plan;
  ASSERT_OK(plan.add(a.checkpoint, "flat", one.destination(host.get())));
  ASSERT_OK(plan.add(a.checkpoint, "flat", two.destination()));
  EXPECT_EQ(plan.check({.io = IoMode::buffered}).value().peak_staging_nbytes, 0u);
  ASSERT_OK(load(plan));
  EXPECT_TRUE(one.bytes() == a.tensors[1].bytes);
  EXPECT_TRUE(two.bytes() == a.tensors[1].bytes);
}

TEST(LoadDestinations, FillsMemoryThatADeviceAllocated) {
  const Example a;
  const std::unique_ptr<Device> host = host_device();
  FakeDevice fake;
  for (Device* device : {host.get(), static_cast<Device*>(&fake)}) {
    Result<DeviceBuffer> buffer = DeviceBuffer::allocate(*device, 700'000);
    ASSERT_OK(buffer);
    LoadPlan plan;
    ASSERT_OK(plan.add(a.checkpoint, "flat", {device, buffer->data(), buffer->nbytes(), 0}));
    ASSERT_OK(load(plan));
    std::string out(700'000, '\0');
    ASSERT_OK(device->memory()->read_back(buffer->data(), std::as_writable_bytes(std::span(out))));
    EXPECT_TRUE(out == a.tensors[1].bytes);
  }
}

TEST(LoadDestinations, LoadsAnEmptyPlan) {
  const Result<LoadReport> report = load(LoadPlan());
  ASSERT_OK(report);
  EXPECT_EQ(report->bytes_wanted, 0u);
  EXPECT_EQ(report->bytes_read, 0u);
}

TEST(LoadDestinations, LoadsOnePlanAgainAndAgain) {
  const Example a;
  Target target(700'000);
  LoadPlan plan;
  ASSERT_OK(plan.add(a.checkpoint, "flat", target.destination()));
  LoadPlan moved = std::move(plan);
  for (unsigned threads = 1; threads <= 17; ++threads) {
    std::fill_n(target.data(), 700'000, std::byte{0});
    const Result<LoadReport> report = load(moved, {.threads = threads});
    ASSERT_OK(report);
    EXPECT_TRUE(target.bytes() == a.tensors[1].bytes) << threads;
    EXPECT_EQ(report->threads, 1u);  // one job needs one
  }
}

}  // namespace
}  // namespace flatbed
