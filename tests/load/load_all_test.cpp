// load_all(): one allocation, places, slices, groups, look-up by name; MemoryLayout and
// group_by_layer().
#include "flatbed/load_all.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "support/expect_error.hpp"
#include "support/fake_device.hpp"
#include "support/load_model.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::FakeDevice;
using test::fill;
using test::ModelTensor;
using test::slice_of;
using test::TempDir;

constexpr std::uint64_t kMiB = 1 << 20;

struct Example {
  TempDir dir;
  std::vector<ModelTensor> tensors{
      {"embed", Dtype::u8, {1000}},       {"layers.0.w", Dtype::u16, {4, 6}},
      {"layers.1.w", Dtype::u16, {4, 6}}, {"none", Dtype::f32, {0, 7}},
      {"scalar", Dtype::f32, {}},         {"large", Dtype::u8, {kMiB}}};
  FakeDevice device;
  Checkpoint checkpoint = write();

  Checkpoint write() {
    fill(tensors);
    SavePlan plan;
    for (const ModelTensor& tensor : tensors)
      plan.items.push_back({tensor.name, tensor.dtype, tensor.shape, as_bytes(tensor.bytes)});
    plan.aliases = {{"tied", "embed"}};
    EXPECT_OK(save(dir / "a", plan, {.sync = false}));
    return Checkpoint::open(dir / "a").value();
  }
  [[nodiscard]] const ModelTensor& model(std::string_view name) const {
    return *std::ranges::find(tensors, name, &ModelTensor::name);
  }
};

std::string bytes_of(const LoadedTensor& tensor) {
  return {reinterpret_cast<const char*>(tensor.data), tensor.nbytes};
}

std::vector<std::uint64_t> sizes(ShapeView shape) { return {shape.begin(), shape.end()}; }

TEST(LoadAll, PutsEveryTensorIntoOneAllocationInTheCheckpointsOrder) {
  Example a;
  const std::unique_ptr<Device> host = host_device();
  for (Device* device : {host.get(), static_cast<Device*>(&a.device)}) {
    const Result<LoadedTensors> loaded = load_all(a.checkpoint, *device);
    ASSERT_OK(loaded);
    ASSERT_EQ(loaded->tensors().size(), a.checkpoint.tensors().size());
    for (const TensorInfo& info : a.checkpoint.tensors()) {
      const LoadedTensor& tensor = loaded->tensors()[info.index];
      EXPECT_EQ(tensor.name, info.name);
      EXPECT_EQ(tensor.index, info.index);
      EXPECT_EQ(tensor.dtype, a.model(info.name).dtype);
      EXPECT_EQ(sizes(tensor.shape), a.model(info.name).shape);
      EXPECT_EQ(bytes_of(tensor), a.model(info.name).bytes) << info.name;
    }
    EXPECT_EQ(loaded->report().bytes_wanted, 1000 + 48 + 48 + 4 + kMiB);
    EXPECT_EQ(loaded->report().bytes_verified, loaded->report().bytes_wanted);
  }
  EXPECT_EQ(a.device.allocations(), 1);
  EXPECT_EQ(a.device.allocated_nbytes(), 0u);
  EXPECT_EQ(a.device.open_tickets(), 0u);
}

TEST(LoadAll, FindsTensorsByNameAndByAlias) {
  Example a;
  const LoadedTensors loaded = load_all(a.checkpoint, a.device).value();
  const LoadedTensor* const embed = loaded.find("embed");
  ASSERT_NE(embed, nullptr);
  EXPECT_EQ(embed->name, "embed");
  EXPECT_EQ(loaded.find("tied"), embed);
  EXPECT_EQ(loaded.find("untied"), nullptr);
}

TEST(LoadAll, BeginsTensorsAtTheAlignmentAndLargeOnesOnAPage) {
  Example a;
  const auto address = [](const LoadedTensor& tensor) {
    return reinterpret_cast<std::uintptr_t>(tensor.data);
  };
  for (const std::uint64_t alignment : {64u, 256u, 4096u, 65536u}) {
    const LoadedTensors loaded = load_all(a.checkpoint, a.device, {.alignment = alignment}).value();
    for (const LoadedTensor& tensor : loaded.tensors())
      EXPECT_EQ(address(tensor) % alignment, 0u) << tensor.name;
    EXPECT_EQ(address(*loaded.find("large")) % 4096, 0u);
    EXPECT_EQ(loaded.find("none")->data, nullptr);
  }
  EXPECT_ERROR(load_all(a.checkpoint, a.device, {.alignment = 0}), invalid_argument);
  EXPECT_ERROR(load_all(a.checkpoint, a.device, {.alignment = 384}), invalid_argument);
  EXPECT_ERROR(load_all(a.checkpoint, a.device, {.alignment = 4 * kMiB}), invalid_argument);
}

TEST(LoadAll, LoadsTheSlicesThatItIsGivenAndLeavesTensorsOut) {
  Example a;
  const auto include = [](const TensorInfo& tensor) { return tensor.name != "large"; };
  const auto slice = [](const TensorInfo& tensor) -> Result<Slice> {
    EXPECT_NE(tensor.name, "large");
    if (tensor.shape.size() < 2 || tensor.shape[1] != 6) return Slice{};
    return Slice{1, 2, 5};
  };
  const LoadedTensors loaded =
      load_all(a.checkpoint, a.device, {.include = include, .slice = slice}).value();
  EXPECT_EQ(loaded.tensors().size(), 5u);
  EXPECT_EQ(loaded.find("large"), nullptr);
  EXPECT_EQ(loaded.report().bytes_wanted, 1000u + 24 + 24 + 4);
  for (const char* name : {"layers.0.w", "layers.1.w"}) {
    const LoadedTensor& tensor = *loaded.find(name);
    EXPECT_EQ(sizes(tensor.shape), (std::vector<std::uint64_t>{4, 3}));
    EXPECT_EQ(tensor.nbytes, 24u);
    EXPECT_EQ(bytes_of(tensor), slice_of(a.model(name), 1, 2, 5));
  }
  EXPECT_EQ(bytes_of(*loaded.find("embed")), a.model("embed").bytes);
}

TEST(LoadAll, LoadsASelection) {
  Example a;
  const Checkpoint layers = a.checkpoint.select({.include = {"layers.*"}}).value();
  const LoadedTensors loaded = load_all(layers, a.device).value();
  ASSERT_EQ(loaded.tensors().size(), 2u);
  EXPECT_EQ(bytes_of(*loaded.find("layers.1.w")), a.model("layers.1.w").bytes);
  EXPECT_EQ(loaded.find("embed"), nullptr);
}

TEST(LoadAll, AllocatesNothingWhereNothingHasBytes) {
  Example a;
  const auto nothing = [](const TensorInfo&) { return false; };
  const auto empty = [](const TensorInfo& tensor) { return tensor.name == "none"; };
  const LoadedTensors none = load_all(a.checkpoint, a.device, {.include = nothing}).value();
  EXPECT_TRUE(none.tensors().empty());
  EXPECT_EQ(none.nbytes(), 0u);
  EXPECT_EQ(none.report().bytes_wanted, 0u);
  const LoadedTensors one = load_all(a.checkpoint, a.device, {.include = empty}).value();
  EXPECT_EQ(one.tensors().size(), 1u);
  EXPECT_EQ(a.device.allocations(), 0);
}

TEST(LoadAll, DividesTensorsIntoGroups) {
  Example a;
  std::vector<std::uint32_t> ready;
  LoadAllOptions options{.group = group_by_layer};
  options.load.ready = [&](const GroupReady& group) -> Result<void> {
    ready.push_back(group.group);
    return {};
  };
  const LoadedTensors loaded = load_all(a.checkpoint, a.device, options).value();
  EXPECT_EQ(ready, (std::vector<std::uint32_t>{kNoLayer, 0, 1}));
  EXPECT_EQ(loaded.find("layers.1.w")->group, 1u);
  EXPECT_EQ(loaded.find("embed")->group, kNoLayer);
}

TEST(LoadAll, SaysWhereEverythingGoesBeforeItReads) {
  Example a;
  std::vector<LoadedTensor> places;
  bool read = false;
  LoadAllOptions options;
  options.placed = [&](const LoadedTensors& loaded) -> Result<void> {
    EXPECT_FALSE(read);
    places.assign(loaded.tensors().begin(), loaded.tensors().end());
    return {};
  };
  options.load.ready = [&](const GroupReady&) -> Result<void> {
    read = true;
    return {};
  };
  const LoadedTensors loaded = load_all(a.checkpoint, a.device, options).value();
  ASSERT_EQ(places.size(), loaded.tensors().size());
  for (std::size_t i = 0; i < places.size(); ++i)
    EXPECT_EQ(places[i].data, loaded.tensors()[i].data);
}

TEST(LoadAll, ReturnsTheErrorsOfItsCallbacksAndKeepsNoMemory) {
  Example a;
  const auto fails = [](const auto&) { return make_error(ErrorCode::cancelled, "enough"); };
  LoadAllOptions at[4];
  at[0].slice = fails;
  at[1].placed = fails;
  at[2].load.ready = fails;
  at[3].load.progress = fails;
  for (const LoadAllOptions& options : at) {
    const Result<LoadedTensors> loaded = load_all(a.checkpoint, a.device, options);
    EXPECT_ERROR(loaded, cancelled);
    EXPECT_EQ(loaded.error().message, "enough");
    EXPECT_EQ(a.device.allocated_nbytes(), 0u);
    EXPECT_EQ(a.device.pending(), 0u);
    EXPECT_EQ(a.device.open_tickets(), 0u);
  }
}

TEST(LoadAll, ReturnsTheErrorsOfItsStepsAndKeepsNoMemory) {
  Example a;
  const auto too_long = [](const TensorInfo&) { return Slice{0, 0, 1u << 30}; };
  EXPECT_ERROR(load_all(a.checkpoint, a.device, {.slice = too_long}), slice_invalid);
  EXPECT_ERROR(load_all(a.checkpoint, a.device, {.load = {.staging_nbytes = 1}}), budget_too_small);
  a.device.faults.copy = 1;
  EXPECT_ERROR(load_all(a.checkpoint, a.device), device_error);
  a.device.faults = {.allocate = a.device.allocations() + 1};
  EXPECT_ERROR(load_all(a.checkpoint, a.device), resource_exhausted);
  EXPECT_EQ(a.device.allocated_nbytes(), 0u);
  a.device.faults = {.no_memory = true};
  const Result<LoadedTensors> loaded = load_all(a.checkpoint, a.device);
  EXPECT_ERROR(loaded, invalid_argument);
  EXPECT_EQ(loaded.error().message,
            "fake: the device allocates no memory; load into memory of the engine's own");
}

TEST(LoadedTensors, KeepTheirPointersWhenMoved) {
  Example a;
  LoadedTensors first = load_all(a.checkpoint, a.device).value();
  const LoadedTensor* const embed = first.find("embed");
  LoadedTensors second = std::move(first);
  EXPECT_EQ(second.find("embed"), embed);
  EXPECT_EQ(bytes_of(*embed), a.model("embed").bytes);
  second = load_all(a.checkpoint, a.device, {.load = {.verify = Verify::no}}).value();
  EXPECT_EQ(second.report().bytes_verified, 0u);
}

// They share what the checkpoint has: names and aliases are there when it has gone.
TEST(LoadedTensors, OutliveTheCheckpoint) {
  auto a = std::make_unique<Example>();
  FakeDevice device;
  const LoadedTensors loaded = load_all(a->checkpoint, device).value();
  a.reset();
  EXPECT_EQ(loaded.find("tied")->name, "embed");
}

// ---- MemoryLayout -------------------------------------------------------------------------------

TEST(MemoryLayout, PutsPlacesOneAfterTheOther) {
  MemoryLayout layout;
  EXPECT_EQ(layout.nbytes(), 0u);
  EXPECT_EQ(layout.place(3).value(), 0u);
  EXPECT_EQ(layout.place(256).value(), 256u);
  EXPECT_EQ(layout.place(0).value(), 0u);
  EXPECT_EQ(layout.place(1).value(), 512u);
  EXPECT_EQ(layout.nbytes(), 513u);
  EXPECT_EQ(layout.alignment(), 256u);
  EXPECT_EQ(layout.place(kMiB).value(), 4096u);
  EXPECT_EQ(layout.place(kMiB - 1).value(), kMiB + 4096);
  EXPECT_EQ(layout.alignment(), 4096u);
}

TEST(MemoryLayout, RefusesSizesThatAddUpToTooMuch) {
  constexpr std::uint64_t kMost = std::uint64_t{1} << 62;
  MemoryLayout layout;
  EXPECT_ERROR(layout.place(kMost + 1), size_overflow);
  EXPECT_ERROR(layout.place(~std::uint64_t{0}), size_overflow);
  EXPECT_EQ(layout.place(kMost).value(), 0u);
  EXPECT_ERROR(layout.place(1), size_overflow);
  EXPECT_EQ(layout.nbytes(), kMost);
}

// ---- slice_nbytes() and group_by_layer() --------------------------------------------------------

TEST(SliceNbytes, AreThoseThatArrive) {
  const Example a;
  const TensorInfo tensor = a.checkpoint.tensor("layers.0.w").value();
  EXPECT_EQ(slice_nbytes(tensor, {}).value(), 48u);
  EXPECT_EQ(slice_nbytes(tensor, {0, 1, 3}).value(), 24u);
  EXPECT_EQ(slice_nbytes(tensor, {1, 5, 6}).value(), 8u);
  EXPECT_EQ(slice_nbytes(tensor, {1, 5, 5}).value(), 0u);
  EXPECT_ERROR(slice_nbytes(tensor, {2, 0, 1}), slice_invalid);
  EXPECT_ERROR(slice_nbytes(tensor, {1, 0, 7}), slice_invalid);
  EXPECT_EQ(slice_nbytes(a.checkpoint.tensor("scalar").value(), {}).value(), 4u);
}

TEST(GroupByLayer, TakesTheFirstNumberBetweenDots) {
  const auto group = [](std::string_view name) {
    TensorInfo tensor;
    tensor.name = name;
    return group_by_layer(tensor);
  };
  EXPECT_EQ(group("model.layers.7.mlp.experts.3.w").id, 7u);
  EXPECT_EQ(group("12").id, 12u);
  EXPECT_EQ(group("h.007").id, 7u);
  EXPECT_EQ(group("h.4294967294.w").id, 4294967294u);
  for (const char* name : {"", "embed.weight", "conv1.w", "a.-1.w", "a.+1.w", "a.1e5.w", "a. 1.w",
                           "a.4294967295.w", "a.99999999999999999999.w", "a..w."}) {
    EXPECT_EQ(group(name).id, kNoLayer) << name;
    EXPECT_LT(group(name).priority, group("layers.0.w").priority) << name;
  }
  EXPECT_EQ(group("h.0.w").priority, group("h.1.w").priority);
}

}  // namespace
}  // namespace flatbed
