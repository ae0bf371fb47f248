// load(): what arrives is what the file holds, wherever it goes and however it is read.
#include "flatbed/load.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <deque>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "base/str_cat.hpp"
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

std::vector<ModelTensor> example() {
  std::vector<ModelTensor> tensors{
      {"scalar", Dtype::f32, {}},           {"empty", Dtype::f32, {0, 7}},
      {"odd", Dtype::u8, {3, 5, 7}},        {"matrix", Dtype::f32, {300, 500}},
      {"wide", Dtype::bf16, {16, 100'000}}, {"long", Dtype::f32, {2048, 300}},
      {"cube", Dtype::i64, {4, 60, 33}},    {"tail", Dtype::u8, {kChunk + 1}},
  };
  fill(tensors);
  return tensors;
}

struct Way {
  bool seal;
  bool on_device;
  Verify verify;
  IoMode io;
  std::size_t shift;
};

class LoadEveryWay : public testing::TestWithParam<Way> {};

TEST_P(LoadEveryWay, TensorsAndSlicesArrive) {
  const Way way = GetParam();
  const TempDir dir;
  const std::vector<ModelTensor> tensors = example();
  const Checkpoint checkpoint = write_model(dir / "a", tensors, way.seal);
  FakeDevice device;
  LoadPlan plan;
  std::deque<std::pair<Target, std::string>> wanted;
  const auto add = [&](const ModelTensor& tensor, const Slice& slice, std::string bytes) {
    wanted.emplace_back(Target(bytes.size(), way.shift), std::move(bytes));
    Target& target = wanted.back().first;
    ASSERT_OK(plan.add(checkpoint, tensor.name,
                       target.destination(way.on_device ? &device : nullptr), {.slice = slice}));
  };
  for (const ModelTensor& tensor : tensors) {
    add(tensor, {}, tensor.bytes);
    for (std::size_t dim = 0; dim < tensor.shape.size(); ++dim) {
      const std::uint64_t size = tensor.shape[dim];
      add(tensor, {dim, size / 3, size / 3 * 2}, slice_of(tensor, dim, size / 3, size / 3 * 2));
      add(tensor, {dim, size - size / 8, size}, slice_of(tensor, dim, size - size / 8, size));
    }
  }
  const LoadOptions options{.verify = way.verify,
                            .io = way.io,
                            .threads = 3,
                            .staging_nbytes = 2 << 20,
                            .slot_nbytes = 512 << 10};
  const Result<LoadReport> report = load(plan, options);
  ASSERT_OK(report);
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    EXPECT_TRUE(wanted[i].first.bytes() == wanted[i].second) << i;
    EXPECT_TRUE(wanted[i].first.border_is_whole()) << i;
  }
  EXPECT_EQ(report->chunks_verified > 0, way.seal && way.verify == Verify::yes);
  EXPECT_EQ(device.pending(), 0u);
  EXPECT_EQ(device.open_tickets(), 0u);
  EXPECT_EQ(device.staged_nbytes(), 0u);
}

std::vector<Way> every_way() {
  std::vector<Way> out;
  for (const bool seal : {true, false})
    for (const bool on_device : {true, false})
      for (const Verify verify : {Verify::yes, Verify::no})
        for (const IoMode io : {IoMode::buffered, IoMode::direct, IoMode::automatic})
          for (const std::size_t shift : {0, 8})
            out.push_back({seal, on_device, verify, io, shift});
  return out;
}

std::string way_name(const testing::TestParamInfo<Way>& info) {
  const Way& way = info.param;
  const std::string_view io = way.io == IoMode::direct     ? "Direct"
                              : way.io == IoMode::buffered ? "Buffered"
                                                           : "Automatic";
  return str_cat(way.seal ? "Sealed" : "Plain", way.on_device ? "Device" : "Host",
                 way.verify == Verify::yes ? "Checked" : "Unchecked", io,
                 way.shift == 0 ? "Aligned" : "Shifted");
}

INSTANTIATE_TEST_SUITE_P(Ways, LoadEveryWay, testing::ValuesIn(every_way()), way_name);

}  // namespace
}  // namespace flatbed
