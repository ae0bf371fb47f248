// LoadPlan::add() and shard_slice(): what is refused, each beside what is not.
#include "load/load_plan.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.hpp"
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
using test::TempDir;
using test::write_model;

constexpr std::uint64_t kHuge = std::uint64_t{1} << 52;  // its square does not fit 64 bits

// A checkpoint, and memory for its tensors that is aligned to 64 bytes.
struct Example {
  TempDir dir;
  Checkpoint checkpoint = write(dir / "a.safetensors");
  alignas(64) std::array<std::byte, 4096> memory = {};
  LoadPlan plan;

  static Checkpoint write(const std::filesystem::path& path) {
    std::vector<ModelTensor> tensors{
        {"layer.weight", Dtype::f32, {10, 3}},   {"scalar", Dtype::f64, {}},
        {"nibbles", Dtype::f4, {4, 3}},          {"rows", Dtype::f4, {2, 4}},
        {"none", Dtype::f32, {0, kHuge, kHuge}}, {"row", Dtype::u8, {100}},
    };
    fill(tensors);
    return write_model(path, tensors);
  }
  [[nodiscard]] Destination to(std::uint64_t capacity, std::uint64_t row_pitch = 0) {
    return {nullptr, memory.data(), capacity, row_pitch};
  }
  Result<void> add(std::string_view name, const Destination& to, const LoadItem& item = {}) {
    return plan.add(checkpoint, name, to, item);
  }
  // Into as much memory as there is.
  Result<void> add_slice(std::string_view name, const Slice& slice) {
    return add(name, to(4096), {.slice = slice});
  }
};

std::string message(const Result<void>& result) {
  return result ? std::string() : result.error().message;
}

TEST(LoadPlan, NamesTheClosestOfUnknownTensors) {
  Example a;
  const Result<void> added = a.add("layer.weigth", a.to(4096));
  EXPECT_ERROR(added, tensor_not_found);
  EXPECT_NE(message(added).find("layer.weight"), std::string::npos) << message(added);
  EXPECT_OK(a.add("layer.weight", a.to(4096)));
}

TEST(LoadPlan, RefusesSlicesBeyondTheirDimension) {
  Example a;
  EXPECT_OK(a.add_slice("layer.weight", {0, 9, 10}));
  EXPECT_ERROR(a.add_slice("layer.weight", {0, 9, 11}), slice_invalid);
  EXPECT_OK(a.add_slice("layer.weight", {0, 10, Slice::kEnd}));
  EXPECT_ERROR(a.add_slice("layer.weight", {0, 11, Slice::kEnd}), slice_invalid);
  EXPECT_ERROR(a.add_slice("layer.weight", {0, Slice::kEnd, Slice::kEnd}), slice_invalid);
  EXPECT_OK(a.add_slice("layer.weight", {1, 2, 3}));
  EXPECT_ERROR(a.add_slice("layer.weight", {1, 2, 4}), slice_invalid);
}

TEST(LoadPlan, RefusesSlicesThatEndBeforeTheyBegin) {
  Example a;
  EXPECT_OK(a.add_slice("layer.weight", {0, 4, 4}));
  const Result<void> added = a.add_slice("layer.weight", {0, 5, 4});
  EXPECT_ERROR(added, slice_invalid);
  EXPECT_NE(message(added).find(
                "'layer.weight' [10,3]: slice out of range: found elements [5,4) of dimension 0"),
            std::string::npos)
      << message(added);
}

TEST(LoadPlan, RefusesSlicesOfDimensionsThatAreNotThere) {
  Example a;
  EXPECT_OK(a.add_slice("layer.weight", {.dim = 1}));
  EXPECT_ERROR(a.add_slice("layer.weight", {.dim = 2}), slice_invalid);
  EXPECT_OK(a.add_slice("scalar", {}));
  EXPECT_ERROR(a.add_slice("scalar", {0, 0, 1}), slice_invalid);
  EXPECT_ERROR(a.add_slice("scalar", {.dim = 1}), slice_invalid);
}

// A row of "nibbles" is 12 bits, one of "rows" two bytes.
TEST(LoadPlan, RefusesSlicesThatAreNoWholeBytes) {
  Example a;
  EXPECT_OK(a.add_slice("nibbles", {0, 2, 4}));
  EXPECT_ERROR(a.add_slice("nibbles", {0, 0, 1}), slice_invalid);
  EXPECT_ERROR(a.add_slice("nibbles", {0, 1, 3}), slice_invalid);  // begins inside a byte
  EXPECT_ERROR(a.add_slice("nibbles", {1, 0, 2}), slice_invalid);  // rows begin inside bytes
  EXPECT_OK(a.add_slice("nibbles", {1, 0, 3}));                    // the whole
  EXPECT_OK(a.add_slice("nibbles", {0, 1, 1}));                    // nothing
  EXPECT_OK(a.add_slice("rows", {1, 0, 2}));
  EXPECT_ERROR(a.add_slice("rows", {1, 0, 1}), slice_invalid);
  EXPECT_ERROR(a.add_slice("rows", {1, 1, 3}), slice_invalid);
  EXPECT_OK(a.add_slice("rows", {0, 1, 2}));
}

TEST(LoadPlan, RefusesRowsThatAreNoWholeBytes) {
  Example a;
  EXPECT_ERROR(a.add("nibbles", a.to(4096, 2)), destination_invalid);
  EXPECT_OK(a.add("rows", a.to(4096, 3)));
}

TEST(LoadPlan, RefusesAnotherDtypeThanIsExpected) {
  Example a;
  EXPECT_OK(a.add("layer.weight", a.to(4096), {.dtype = Dtype::f32}));
  const Result<void> added = a.add("layer.weight", a.to(4096), {.dtype = Dtype::i32});
  EXPECT_ERROR(added, load_mismatch);
  EXPECT_NE(message(added).find("the dtype does not match: found F32, expected I32"),
            std::string::npos);
}

TEST(LoadPlan, ExpectsTheShapeAfterSlicing) {
  Example a;
  constexpr std::array<std::uint64_t, 2> kWhole{10, 3};
  constexpr std::array<std::uint64_t, 2> kPart{4, 3};
  const auto add = [&](const Slice& slice, ShapeView shape) {
    return a.add("layer.weight", a.to(4096), {.slice = slice, .shape = shape});
  };
  EXPECT_OK(add({}, kWhole));
  EXPECT_OK(add({0, 2, 6}, kPart));
  EXPECT_ERROR(add({0, 2, 6}, kWhole), load_mismatch);
  EXPECT_ERROR(add({0, 2, 7}, kPart), load_mismatch);
  EXPECT_ERROR(add({}, ShapeView(kWhole).first(1)), load_mismatch);
  EXPECT_ERROR(add({}, ShapeView()), load_mismatch);
  EXPECT_OK(a.add("scalar", a.to(8), {.shape = ShapeView()}));
}

TEST(LoadPlan, RefusesDestinationsThatAreOneByteShort) {
  Example a;
  EXPECT_OK(a.add("layer.weight", a.to(120)));
  EXPECT_ERROR(a.add("layer.weight", a.to(119)), buffer_too_small);
  EXPECT_OK(a.add("layer.weight", a.to(48), {.slice = {0, 0, 4}}));
  EXPECT_ERROR(a.add("layer.weight", a.to(47), {.slice = {0, 0, 4}}), buffer_too_small);
  EXPECT_OK(a.add("nibbles", a.to(6)));
  EXPECT_ERROR(a.add("nibbles", a.to(5)), buffer_too_small);
}

// Ten rows of 12 bytes, 32 apart: the last one ends at byte 9 * 32 + 12.
TEST(LoadPlan, WantsNoPaddingBehindTheLastRow) {
  Example a;
  EXPECT_OK(a.add("layer.weight", a.to(300, 32)));
  EXPECT_ERROR(a.add("layer.weight", a.to(299, 32)), buffer_too_small);
  EXPECT_OK(a.add("layer.weight", a.to(12, 32), {.slice = {0, 3, 4}}));
  EXPECT_ERROR(a.add("layer.weight", a.to(11, 32), {.slice = {0, 3, 4}}), buffer_too_small);
  EXPECT_OK(a.add("layer.weight", a.to(9 * 8 + 4, 8), {.slice = {1, 1, 2}}));
  EXPECT_ERROR(a.add("layer.weight", a.to(9 * 8 + 3, 8), {.slice = {1, 1, 2}}), buffer_too_small);
}

TEST(LoadPlan, RefusesPitchesBelowARow) {
  Example a;
  EXPECT_OK(a.add("layer.weight", a.to(4096, 12)));
  EXPECT_ERROR(a.add("layer.weight", a.to(4096, 8)), destination_invalid);
  EXPECT_OK(a.add("layer.weight", a.to(4096, 8), {.slice = {1, 0, 2}}));
  EXPECT_ERROR(a.add("layer.weight", a.to(4096, 4), {.slice = {1, 0, 2}}), destination_invalid);
}

TEST(LoadPlan, RefusesPitchesThatOverflow) {
  Example a;
  const std::uint64_t most = ~std::uint64_t{0} / 10 / 4 * 4;
  EXPECT_ERROR(a.add("layer.weight", a.to(~std::uint64_t{0}, most + 4)), destination_invalid);
  EXPECT_OK(a.add("layer.weight", a.to(~std::uint64_t{0}, most)));
  // One row has no use for its pitch.
  EXPECT_OK(a.add("layer.weight", a.to(12, most + 4), {.slice = {0, 0, 1}}));
  EXPECT_OK(a.add("row", a.to(100, ~std::uint64_t{0})));
}

TEST(LoadPlan, RefusesNull) {
  Example a;
  EXPECT_ERROR(a.add("layer.weight", {nullptr, nullptr, 4096, 0}), destination_invalid);
  EXPECT_OK(a.add("layer.weight", {}, {.slice = {0, 3, 3}}));  // where nothing arrives
  EXPECT_OK(a.add("none", {}));
}

TEST(LoadPlan, RefusesMisalignedDestinations) {
  Example a;
  const auto at = [&](std::size_t offset, std::uint64_t pitch = 0) {
    return Destination{nullptr, a.memory.data() + offset, 2048, pitch};
  };
  EXPECT_OK(a.add("layer.weight", at(4)));
  EXPECT_ERROR(a.add("layer.weight", at(2)), destination_invalid);
  EXPECT_OK(a.add("scalar", at(8)));
  EXPECT_ERROR(a.add("scalar", at(4)), destination_invalid);
  EXPECT_OK(a.add("nibbles", at(1)));
  EXPECT_OK(a.add("layer.weight", at(0, 16)));
  EXPECT_ERROR(a.add("layer.weight", at(0, 18)), destination_invalid);
}

TEST(LoadPlan, TakesTensorsWithoutBytesHoweverLargeTheyAreOtherwise) {
  Example a;
  constexpr std::array<std::uint64_t, 3> kPart{0, kHuge - 1, kHuge};
  EXPECT_OK(a.add("none", a.to(0)));
  EXPECT_OK(a.add("none", a.to(0, 16)));
  EXPECT_OK(a.add("none", a.to(0), {.slice = {1, 1, kHuge}, .shape = ShapeView(kPart)}));
  EXPECT_ERROR(a.add("none", a.to(0), {.slice = {1, 1, kHuge + 1}}), slice_invalid);
  EXPECT_ERROR(a.add("none", a.to(0), {.slice = {0, 0, 1}}), slice_invalid);
}

TEST(LoadPlan, KnowsOnePriorityOfAGroup) {
  Example a;
  EXPECT_OK(a.add("row", a.to(100), {.group = {7, -1}}));
  EXPECT_OK(a.add("row", a.to(100), {.group = {8, 2}}));
  EXPECT_OK(a.add("row", a.to(100), {.group = {7, -1}}));
  EXPECT_ERROR(a.add("row", a.to(100), {.group = {7, 2}}), invalid_argument);
}

TEST(LoadPlan, StaysAsItWasWhenSomethingIsRefused) {
  Example a;
  FakeDevice device;
  const Destination bad{&device, a.memory.data(), 1, 0};
  EXPECT_ERROR(a.add("row", bad, {.group = {3, 5}}), buffer_too_small);
  EXPECT_ERROR(a.add("rows", bad, {.slice = {1, 0, 1}, .group = {3, 5}}), slice_invalid);
  EXPECT_ERROR(a.add("none such", bad, {.group = {3, 5}}), tensor_not_found);
  const LoadPlanState& state = LoadPlanAccess::state(a.plan);
  EXPECT_EQ(a.plan.size(), 0u);
  EXPECT_TRUE(state.checkpoints.empty());
  EXPECT_EQ(state.devices.size(), 1u);
  EXPECT_TRUE(state.groups.empty());
  EXPECT_OK(a.add("row", a.to(100), {.group = {3, 6}}));  // a priority of its own
  EXPECT_ERROR(a.add("row", bad, {.group = {3, 5}}), buffer_too_small);
  EXPECT_ERROR(a.add("row", {&device, a.memory.data(), 100, 0}, {.group = {3, 5}}),
               invalid_argument);
  EXPECT_EQ(a.plan.size(), 1u);
  EXPECT_EQ(state.devices.size(), 1u);
  EXPECT_EQ(a.plan.check().value().bytes_wanted, 100u);
}

TEST(ShardSlice, GivesTheFirstPartsWhatIsLeftOver) {
  const Example a;
  const TensorInfo& tensor = *a.checkpoint.find("layer.weight");
  const std::vector<std::pair<std::uint64_t, std::uint64_t>> wanted{{0, 4}, {4, 7}, {7, 10}};
  for (std::uint64_t rank = 0; rank < 3; ++rank) {
    const Result<Slice> slice = shard_slice(tensor, 0, rank, 3);
    ASSERT_OK(slice);
    EXPECT_EQ(slice->dim, 0u);
    EXPECT_EQ(std::pair(slice->begin, slice->end), wanted[rank]) << rank;
  }
}

TEST(ShardSlice, GivesNothingToPartsBeyondTheElements) {
  Example a;
  const TensorInfo& tensor = *a.checkpoint.find("layer.weight");
  for (const std::uint64_t count : {5ULL, 1ULL << 40, ~0ULL}) {
    for (const std::uint64_t rank : {std::uint64_t{2}, std::uint64_t{3}, count - 1}) {
      const Result<Slice> slice = shard_slice(tensor, 1, rank, count);
      ASSERT_OK(slice);
      EXPECT_EQ(slice->end - slice->begin, rank == 2 ? 1u : 0u) << rank << " of " << count;
      EXPECT_OK(a.add_slice("layer.weight", *slice));
    }
  }
}

TEST(ShardSlice, RefusesPartsThatAreNotThere) {
  const Example a;
  const TensorInfo& tensor = *a.checkpoint.find("layer.weight");
  EXPECT_OK(shard_slice(tensor, 1, 2, 3));
  EXPECT_ERROR(shard_slice(tensor, 1, 3, 3), slice_invalid);
  EXPECT_ERROR(shard_slice(tensor, 2, 0, 3), slice_invalid);
  EXPECT_ERROR(shard_slice(tensor, 0, 0, 0), slice_invalid);
  EXPECT_ERROR(shard_slice(*a.checkpoint.find("scalar"), 0, 0, 1), slice_invalid);
}

}  // namespace
}  // namespace flatbed
