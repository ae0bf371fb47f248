// Loads of tensors that are cast on the way: whole, in slices, to memory and to devices, by a view
// and by LoadItem::as.
#include <gtest/gtest.h>

#include <bit>
#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "base/str_cat.hpp"
#include "flatbed/load.hpp"
#include "flatbed/load_all.hpp"
#include "support/cpu_time.hpp"
#include "support/expect_error.hpp"
#include "support/fake_device.hpp"
#include "support/load_model.hpp"
#include "support/pickle_asm.hpp"
#include "support/slow_cast.hpp"
#include "support/temp_dir.hpp"
#include "support/zip_builder.hpp"

namespace flatbed {
namespace {

namespace pickle = test::pickle;
using test::FakeDevice;
using test::kChunk;
using test::ModelTensor;
using test::slow_cast;
using test::Target;
using test::TempDir;

class LoadCast : public testing::Test {
 protected:
  LoadCast() {
    std::vector<ModelTensor> tensors{{"w", Dtype::f32, {300, 1024}}, {"n", Dtype::i32, {5}}};
    test::fill(tensors);
    w_ = tensors[0];
    model_ = test::write_model(dir_ / "a.safetensors", tensors);
    cast_ = w_;
    cast_.dtype = Dtype::bf16;
    cast_.bytes = slow_cast(Dtype::f32, Dtype::bf16, w_.bytes);
  }

  TempDir dir_;
  ModelTensor w_;
  ModelTensor cast_;  // what arrives of it
  std::optional<Checkpoint> model_;
};

TEST_F(LoadCast, CastsATensorThatAnItemAsksFor) {
  Target target(cast_.bytes.size());
  LoadPlan plan;
  ASSERT_OK(plan.add(*model_, "w", target.destination(), {.as = Dtype::bf16}));
  const LoadReport report = load(plan).value();
  EXPECT_TRUE(target.bytes() == cast_.bytes);
  EXPECT_TRUE(target.border_is_whole());
  EXPECT_EQ(report.bytes_wanted, cast_.bytes.size());
  EXPECT_EQ(report.bytes_read, w_.bytes.size());
  EXPECT_EQ(report.bytes_verified, w_.bytes.size());
  EXPECT_EQ(report.chunks_verified, 5U);
  EXPECT_EQ(report.casts.tensors, 1U);
}

TEST_F(LoadCast, LoadsSlicesOfRowsAndColumns) {
  const Checkpoint view = model_->cast({.to = Dtype::bf16}).value();
  for (const std::size_t dim : {std::size_t{0}, std::size_t{1}}) {
    const Slice slice = shard_slice(*view.find("w"), dim, 1, 3).value();
    const std::string expected = test::slice_of(cast_, dim, slice.begin, slice.end);
    Target target(expected.size());
    LoadPlan plan;
    ASSERT_OK(plan.add(view, "w", target.destination(), {.slice = slice}));
    ASSERT_OK(load(plan));
    EXPECT_TRUE(target.bytes() == expected) << dim;
    EXPECT_TRUE(target.border_is_whole());
  }
}

TEST_F(LoadCast, LoadsToADevice) {
  FakeDevice device;
  Target target(cast_.bytes.size());
  LoadPlan plan;
  ASSERT_OK(plan.add(*model_, "w", target.destination(&device), {.as = Dtype::bf16}));
  ASSERT_OK(load(plan));
  EXPECT_TRUE(target.bytes() == cast_.bytes);
}

TEST_F(LoadCast, LaysOutAllTensorsOfAView) {
  const std::unique_ptr<Device> host = host_device();
  const LoadedTensors loaded = load_all(model_->cast({.to = Dtype::bf16}).value(), *host).value();
  const LoadedTensor& weight = *loaded.find("w");
  EXPECT_EQ(weight.dtype, Dtype::bf16);
  EXPECT_TRUE(std::string_view(reinterpret_cast<const char*>(weight.data), weight.nbytes) ==
              cast_.bytes);
}

TEST_F(LoadCast, JudgesTheDestinationByTheNewDtype) {
  Target target(w_.bytes.size() * 2, 2);
  LoadPlan plan;
  const auto add = [&](std::uint64_t capacity, const LoadItem& item) {
    return plan.add(*model_, "w", {nullptr, target.data(), capacity, 0}, item);
  };
  EXPECT_ERROR(add(cast_.bytes.size() - 1, {.as = Dtype::bf16}), buffer_too_small);
  EXPECT_OK(add(cast_.bytes.size(), {.as = Dtype::bf16}));  // at an odd multiple of 2
  EXPECT_ERROR(add(w_.bytes.size() * 2, {.as = Dtype::f64}), destination_invalid);
  EXPECT_ERROR(add(w_.bytes.size(), {.dtype = Dtype::bf16, .as = Dtype::bf16}), load_mismatch);
  EXPECT_EQ(plan.size(), 1U);
}

TEST_F(LoadCast, RefusesByNameWhatCannotBeCast) {
  Target target(20);
  LoadPlan plan;
  const Result<void> added = plan.add(*model_, "n", target.destination(), {.as = Dtype::bf16});
  EXPECT_ERROR(added, invalid_argument);
  EXPECT_NE(added.error().message.find("'n'"), std::string::npos);
  EXPECT_ERROR(plan.add(*model_, "w", target.destination(), {.as = Dtype::u8}), invalid_argument);
  EXPECT_OK(plan.add(*model_, "n", target.destination(), {.as = Dtype::i32}));
}

// A tensor whose strides are 0 may be of any size. It must not keep others from being cast.
TEST_F(LoadCast, ATensorThatWouldBeTooLargeConcernsNoOther) {
  const auto tensor = [](std::int64_t count) {
    return pickle::tensor({.sizes = pickle::counts({count}), .strides = pickle::counts({0})});
  };
  test::write_file(dir_ / "a.pth", test::torch_zip({.pickle = pickle::finish(pickle::dict(
                                                        {pickle::text("huge"), tensor(1LL << 58),
                                                         pickle::text("small"), tensor(2)}))}));
  const Checkpoint model = Checkpoint::open(dir_ / "a.pth").value();
  Target target(16);
  LoadPlan plan;
  EXPECT_OK(plan.add(model, "small", target.destination(), {.as = Dtype::f64}));
  const Result<void> added = plan.add(model, "huge", target.destination(), {.as = Dtype::f64});
  EXPECT_ERROR(added, size_overflow);
  EXPECT_NE(added.error().message.find("'huge'"), std::string::npos);
}

// The view that casts is made once, not for each tensor.
TEST_F(LoadCast, PlanningManyTensorsIsNotQuadratic) {
  constexpr std::chrono::seconds kNotQuadratic(10);
  const std::vector<ModelTensor> tensors = [] {
    std::vector<ModelTensor> many;
    for (int i = 0; i < 30'000; ++i) many.push_back({str_cat("t", i), Dtype::f32, {1}, "abcd"});
    return many;
  }();
  const Checkpoint model = test::write_model(dir_ / "many.safetensors", tensors);
  Target target(2);
  LoadPlan plan;
  const auto start = test::cpu_time();
  for (const ModelTensor& tensor : tensors) {
    ASSERT_OK(plan.add(model, tensor.name, target.destination(), {.as = Dtype::bf16}));
    ASSERT_LT(test::cpu_time() - start, kNotQuadratic);
  }
}

// Of rows of 1 MiB, 128 KiB each.
TEST_F(LoadCast, ColumnsOfACastAreReadWithoutTheHolesBetweenThem) {
  std::vector<ModelTensor> tensors{{"c", Dtype::f32, {4, 262'144}}};
  test::fill(tensors);
  const Checkpoint model = test::write_model(dir_ / "c.safetensors", tensors);
  ModelTensor cast = tensors[0];
  cast.dtype = Dtype::bf16;
  cast.bytes = slow_cast(Dtype::f32, Dtype::bf16, cast.bytes);
  const std::string expected = test::slice_of(cast, 1, 40'000, 72'768);
  FakeDevice device;
  for (Device* const to : {static_cast<Device*>(nullptr), static_cast<Device*>(&device)}) {
    Target target(expected.size());
    LoadPlan plan;
    ASSERT_OK(plan.add(model, "c", target.destination(to),
                       {.slice = {.dim = 1, .begin = 40'000, .end = 72'768}, .as = Dtype::bf16}));
    const LoadOptions unverified{.verify = Verify::no};
    EXPECT_EQ(plan.check(unverified)->bytes_to_read, expected.size());
    const Result<LoadReport> report = load(plan, unverified);
    ASSERT_OK(report);
    EXPECT_EQ(report->bytes_read, 4U * 32'768 * 4);
    EXPECT_TRUE(target.bytes() == expected);
    EXPECT_TRUE(target.border_is_whole());
  }
}

// A row has four chunks, of which the slice needs the second: it is 256 KiB of 1 MiB.
TEST_F(LoadCast, ColumnsOfACastAreVerifiedByTheChunksThatTheyLieIn) {
  std::vector<ModelTensor> tensors{{"c", Dtype::f32, {4, 262'144}}};
  test::fill(tensors);
  const Checkpoint model = test::write_model(dir_ / "c.safetensors", tensors);
  ModelTensor cast = tensors[0];
  cast.dtype = Dtype::bf16;
  cast.bytes = slow_cast(Dtype::f32, Dtype::bf16, cast.bytes);
  const auto loaded = [&](std::uint64_t begin, std::uint64_t end) {
    Target target((end - begin) * 4 * 2);
    LoadPlan plan;
    EXPECT_OK(plan.add(model, "c", target.destination(),
                       {.slice = {.dim = 1, .begin = begin, .end = end}, .as = Dtype::bf16}));
    const Result<LoadReport> report = load(plan);
    EXPECT_OK(report);
    EXPECT_TRUE(target.bytes() == test::slice_of(cast, 1, begin, end));
    return report->chunks_verified;
  };
  EXPECT_EQ(loaded(65'536, 131'072), 4U);
  EXPECT_EQ(loaded(70'000, 131'000), 4U);
  EXPECT_EQ(loaded(65'536, 196'608), 8U);
  EXPECT_EQ(loaded(32'768, 229'376), 16U);  // a hole of one chunk: everything, and no chunk twice
}

TEST_F(LoadCast, ChecksTheDigestsOfWhatItConverts) {
  std::string file = test::read_file(dir_ / "a.safetensors");
  file[model_->find("w")->where.offset + kChunk] ^= 1;
  test::write_file(dir_ / "a.safetensors", file);
  const Checkpoint damaged = Checkpoint::open(dir_ / "a.safetensors").value();
  Target target(cast_.bytes.size());
  LoadPlan plan;
  ASSERT_OK(plan.add(damaged, "w", target.destination(), {.as = Dtype::bf16}));
  EXPECT_ERROR(load(plan), chunk_corrupt);
  EXPECT_OK(load(plan, {.verify = Verify::no}));
}

TEST_F(LoadCast, ReportsTheValuesThatDoNotFit) {
  std::vector<ModelTensor> tensors{{"a", Dtype::f32, {4}}, {"b", Dtype::f32, {4}}};
  test::fill(tensors);
  const std::vector<float> values{1, 1e6F, -1e6F, 65'510};
  tensors[1].bytes.assign(reinterpret_cast<const char*>(values.data()), 16);
  tensors[0].bytes.assign(16, '\0');
  const Checkpoint model = test::write_model(dir_ / "b.safetensors", tensors);
  Target target(16);
  LoadPlan plan;
  ASSERT_OK(plan.add(model, "a", {nullptr, target.data(), 8, 0}, {.as = Dtype::f16}));
  ASSERT_OK(plan.add(model, "b", {nullptr, target.data() + 8, 8, 0}, {.as = Dtype::f16}));
  const CastReport report = load(plan).value().casts;
  EXPECT_EQ(report.tensors, 2U);
  ASSERT_EQ(report.overflows.size(), 1U);
  EXPECT_EQ(report.overflows[0].name, "b");
  EXPECT_EQ(report.overflows[0].to, Dtype::f16);
  EXPECT_EQ(report.counts, (CastCounts{.saturated = 1, .infinite = 2}));
}

}  // namespace
}  // namespace flatbed
