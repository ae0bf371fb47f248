// load(): what arrives is what the file holds, wherever it goes and however it is read.
#include "flatbed/load.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <deque>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "base/str_cat.hpp"
#include "io/memory_source.hpp"
#include "support/expect_error.hpp"
#include "support/fake_device.hpp"
#include "support/load_model.hpp"
#include "support/page_cache.hpp"
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
          for (const std::size_t shift : {0U, 8U})
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

// ---- columns ------------------------------------------------------------------------------------

// The bytes of a file, and how often each was read.
class CountingSource final : public ByteSource {
 public:
  explicit CountingSource(std::string bytes)
      : bytes_(std::move(bytes)), source_(as_bytes(bytes_), "counted"), counts_(bytes_.size()) {}
  [[nodiscard]] std::string_view label() const noexcept override { return source_.label(); }
  [[nodiscard]] std::uint64_t size() const noexcept override { return source_.size(); }
  [[nodiscard]] Result<void> read_at(std::uint64_t offset,
                                     std::span<std::byte> out) const override {
    const std::lock_guard lock(mutex_);
    for (std::size_t i = 0; i < out.size(); ++i) ++counts_[offset + i];
    return source_.read_at(offset, out);
  }
  void forget() { std::ranges::fill(counts_, 0); }
  // How many bytes were read `times` times.
  [[nodiscard]] std::uint64_t count(unsigned char times) const {
    return static_cast<std::uint64_t>(std::ranges::count(counts_, times));
  }

 private:
  std::string bytes_;
  MemorySource source_;
  mutable std::mutex mutex_;
  mutable std::vector<unsigned char> counts_;
};

// 32 rows of 40 KiB, of which a rank of eight has 5 KiB; and what lies beside.
std::vector<ModelTensor> matrices() {
  std::vector<ModelTensor> tensors{{"norm", Dtype::bf16, {20'480}},
                                   {"down", Dtype::bf16, {32, 20'480}},
                                   {"up", Dtype::u8, {5, 7}}};
  fill(tensors);
  return tensors;
}

// A plan of the columns of some of eight ranks, each into memory of its own.
struct Columns {
  const ModelTensor& tensor;
  const std::vector<std::string>& of_ranks;  // bytes
  LoadPlan plan = {};
  std::deque<std::pair<Target, std::string>> wanted = {};

  void add(const Checkpoint& checkpoint, std::uint64_t rank, Device* device) {
    const Slice slice = shard_slice(*checkpoint.find(tensor.name), 1, rank, 8).value();
    wanted.emplace_back(Target(of_ranks[rank].size(), 8), of_ranks[rank]);
    ASSERT_OK(plan.add(checkpoint, tensor.name, wanted.back().first.destination(device),
                       {.slice = slice}));
  }
  void expect_arrived() {
    for (auto& [target, bytes] : wanted) {
      EXPECT_TRUE(target.bytes() == bytes);
      EXPECT_TRUE(target.border_is_whole());
    }
  }
};

std::vector<std::string> cut_for_ranks(const ModelTensor& tensor) {
  std::vector<std::string> out;
  const std::uint64_t width = tensor.shape[1] / 8;
  for (std::uint64_t begin = 0; begin < tensor.shape[1]; begin += width)
    out.push_back(slice_of(tensor, 1, begin, begin + width));
  return out;
}

struct Ranks {
  std::string_view name;
  std::vector<std::uint64_t> ranks;
};

TEST(LoadColumns, AreReadOnceAndLittleBesideThem) {
  const TempDir dir;
  const std::vector<ModelTensor> tensors = matrices();
  const std::vector<std::string> of_ranks = cut_for_ranks(tensors[1]);
  write_model(dir / "a", tensors);
  const auto source = std::make_shared<CountingSource>(test::read_file(dir / "a"));
  const Checkpoint checkpoint = Checkpoint::open(source).value();
  const std::uint64_t nbytes = tensors[1].bytes.size();
  const std::vector<Ranks> cases{{"one", {3}},
                                 {"neighbours", {4, 3}},
                                 {"one twice", {5, 5}},
                                 {"all", {7, 0, 1, 2, 3, 4, 5, 6}}};
  for (const Ranks& ranks : cases) {
    for (const bool on_device : {false, true}) {
      for (const Verify verify : {Verify::no, Verify::yes}) {
        SCOPED_TRACE(str_cat(ranks.name, on_device ? ", on a device" : "",
                             verify == Verify::yes ? ", checked" : ""));
        FakeDevice device;
        Columns columns{tensors[1], of_ranks};
        for (const std::uint64_t rank : ranks.ranks)
          columns.add(checkpoint, rank, on_device ? &device : nullptr);
        source->forget();
        const Result<LoadReport> report = load(columns.plan, {.verify = verify, .threads = 2});
        ASSERT_OK(report);
        columns.expect_arrived();
        const std::uint64_t distinct = ranks.name == "one twice" ? 1 : ranks.ranks.size();
        const std::uint64_t read = verify == Verify::yes ? nbytes : nbytes / 8 * distinct;
        EXPECT_EQ(source->count(1), read);
        EXPECT_EQ(source->count(0), source->size() - read);
        EXPECT_EQ(report->bytes_read, read);
        EXPECT_EQ(columns.plan.check({.verify = verify})->bytes_to_read, read);
      }
    }
  }
}

TEST(LoadColumns, ArriveHoweverTheyAreRead) {
  const TempDir dir;
  const std::vector<ModelTensor> tensors = matrices();
  const std::vector<std::string> of_ranks = cut_for_ranks(tensors[1]);
  const Checkpoint checkpoint = write_model(dir / "a", tensors, false);
  for (const IoMode io : {IoMode::buffered, IoMode::direct, IoMode::automatic}) {
    for (const bool on_device : {false, true}) {
      FakeDevice device;
      Columns columns{tensors[1], of_ranks};
      columns.add(checkpoint, 2, on_device ? &device : nullptr);
      test::drop_from_cache(dir / "a");
      const Result<LoadReport> report =
          load(columns.plan, {.io = io, .threads = 2, .slot_nbytes = 512 << 10});
      ASSERT_OK(report);
      columns.expect_arrived();
      if (io == IoMode::automatic) {
        EXPECT_EQ(report->bytes_read, report->bytes_wanted);
      }
    }
  }
}

}  // namespace
}  // namespace flatbed
