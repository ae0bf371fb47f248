// load() of every kind of checkpoint: sets, .pth files, selections, aliases, many tensors.
#include <gtest/gtest.h>

#include <cstdint>
#include <deque>
#include <filesystem>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/bytes.hpp"
#include "base/str_cat.hpp"
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
using test::slice_of;
using test::Target;
using test::TempDir;
using test::write_model;

// A plan with a destination of its own for each tensor or slice, and what must arrive there.
struct Everything {
  LoadPlan plan;
  std::deque<Target> targets;
  std::vector<std::string> wanted;
  FakeDevice device;

  // As Checkpoint::read() has it.
  void add(const Checkpoint& checkpoint, const TensorInfo& tensor, bool on_device) {
    std::string bytes(tensor.nbytes, '\0');
    ASSERT_OK(checkpoint.read(tensor, 0, std::as_writable_bytes(std::span(bytes))));
    add(checkpoint, tensor.name, {}, bytes, on_device);
    const ModelTensor model{
        std::string(tensor.name), tensor.dtype, {tensor.shape.begin(), tensor.shape.end()}, bytes};
    for (std::size_t dim = 0; dim < tensor.shape.size(); ++dim) {
      const std::uint64_t size = tensor.shape[dim];
      if (size < 2 || bits(tensor.dtype) < 8) continue;
      add(checkpoint, tensor.name, {dim, 1, size}, slice_of(model, dim, 1, size), on_device);
      add(checkpoint, tensor.name, {dim, 0, size / 2}, slice_of(model, dim, 0, size / 2),
          on_device);
    }
  }
  void add(const Checkpoint& checkpoint, std::string_view name, const Slice& slice,
           std::string bytes, bool on_device) {
    wanted.push_back(std::move(bytes));
    targets.emplace_back(wanted.back().size());
    ASSERT_OK(plan.add(checkpoint, name, targets.back().destination(on_device ? &device : nullptr),
                       {.slice = slice}))
        << name;
  }
  void add_all(const Checkpoint& checkpoint) {
    for (const TensorInfo& tensor : checkpoint.tensors())
      for (const bool on_device : {false, true}) add(checkpoint, tensor, on_device);
  }
  void expect_arrives() {
    for (const IoMode io : {IoMode::buffered, IoMode::direct}) {
      for (Target& target : targets) std::ranges::fill(target.span(), std::byte{0x33});
      const Result<LoadReport> report =
          load(plan, {.io = io, .threads = 3, .staging_nbytes = 1 << 20});
      ASSERT_OK(report);
      for (std::size_t i = 0; i < wanted.size(); ++i) {
        ASSERT_TRUE(targets[i].bytes() == wanted[i]) << i;
        ASSERT_TRUE(targets[i].border_is_whole()) << i;
      }
    }
    EXPECT_EQ(device.pending(), 0u);
    EXPECT_EQ(device.staged_nbytes(), 0u);
  }
};

TEST(LoadInputs, EveryTensorOfEveryTorchFixture) {
  std::size_t files = 0;
  for (const char* folder : {"torch1", "torch2"}) {
    for (const auto& entry : std::filesystem::directory_iterator(
             std::filesystem::path(FLATBED_FIXTURES_DIR) / folder)) {
      if (entry.path().extension() != ".pth") continue;
      const Result<Checkpoint> checkpoint = Checkpoint::open(entry.path());
      if (!checkpoint) continue;  // refused, as tests of the reader say
      SCOPED_TRACE(entry.path().native());
      Everything all;
      all.add_all(*checkpoint);
      all.expect_arrives();
      ++files;
    }
  }
  EXPECT_GE(files, 20u);
}

TEST(LoadInputs, ViewsOfTheirStorages) {
  const Result<Checkpoint> checkpoint = Checkpoint::open(FLATBED_FIXTURES_DIR "/torch2/views.pth");
  ASSERT_OK(checkpoint);
  const TensorInfo* transposed = checkpoint->find("transposed");
  ASSERT_NE(transposed, nullptr);
  ASSERT_EQ(transposed->stored, Stored::strided);
  Everything all;
  all.add(*checkpoint, *transposed, true);
  const LoadPlanReport report = all.plan.check().value();
  EXPECT_EQ(report.files.size(), 1u);
  EXPECT_GE(report.bytes_to_read, transposed->nbytes);
  all.expect_arrives();
}

TEST(LoadInputs, SeveralCheckpointsAndASetInOnePlan) {
  const TempDir dir;
  std::vector<ModelTensor> tensors{{"t", Dtype::f32, {300, 400}}, {"u", Dtype::bf16, {1000}}};
  fill(tensors, 7);
  const Checkpoint one = write_model(dir / "one", tensors);
  fill(tensors, 8);
  const Checkpoint two = write_model(dir / "two", tensors, false);
  const Result<Checkpoint> set = Checkpoint::open(FLATBED_FIXTURES_DIR "/torch2/sharded");
  ASSERT_OK(set);
  ASSERT_EQ(set->files().size(), 2u);
  Everything all;
  for (const Checkpoint* checkpoint : {&one, &two, &*set}) all.add_all(*checkpoint);
  const LoadPlanReport report = all.plan.check().value();
  EXPECT_EQ(report.files.size(), 4u);
  all.expect_arrives();
}

TEST(LoadInputs, SelectionsWithNewNamesAndAliases) {
  const TempDir dir;
  const std::string a = "bytes of a";
  const std::string b = "bytes of b, which are others";
  SavePlan saved;
  saved.items.push_back({"model.a", Dtype::u8, {a.size()}, as_bytes(a)});
  saved.items.push_back({"model.b", Dtype::u8, {b.size()}, as_bytes(b)});
  saved.aliases.push_back({"model.tied", "model.a"});
  ASSERT_OK(save(dir / "a", saved, {.sync = false}));
  const Checkpoint whole = Checkpoint::open(dir / "a").value();
  const Result<Checkpoint> part = whole.select({"model", {}, {}});
  ASSERT_OK(part);
  Everything all;
  all.add(whole, "model.tied", {}, a, false);
  all.add(*part, "a", {}, a, true);
  all.add(*part, "b", {0, 9, 10}, "b", true);
  all.add(*part, "tied", {}, a, false);
  EXPECT_ERROR(all.plan.add(*part, "model.a", {}), tensor_not_found);
  EXPECT_EQ(all.plan.check().value().files.size(), 1u);  // one file, opened once
  all.expect_arrives();
}

// The checkpoint and its selection may go away before the plan.
TEST(LoadInputs, PlansKeepTheirCheckpoints) {
  const TempDir dir;
  Everything all;
  {
    std::vector<ModelTensor> tensors{{"x.t", Dtype::u8, {5000}}};
    fill(tensors);
    const Checkpoint checkpoint = write_model(dir / "a", tensors);
    const Checkpoint part = checkpoint.select({"x", {}, {}}).value();
    all.add(part, "t", {}, tensors[0].bytes, true);
  }
  all.expect_arrives();
}

TEST(LoadInputs, TwentyThousandTinyTensors) {
  const TempDir dir;
  std::vector<ModelTensor> tensors;
  for (std::uint64_t i = 0; i < 20'000; ++i)
    tensors.push_back({str_cat("t", i), Dtype::u16, {i % 7, 1 + i % 3}});
  fill(tensors);
  const Checkpoint checkpoint = write_model(dir / "a", tensors);
  for (const bool on_device : {false, true}) {
    FakeDevice device;
    std::string out;
    std::string wanted;
    LoadPlan plan;
    out.resize(20'000 * 64, '.');
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      const std::size_t at = (i * 7919 % 20'000) * 64;  // in another order than in the file
      ASSERT_OK(plan.add(checkpoint, tensors[i].name,
                         {on_device ? &device : nullptr, out.data() + at, 64, 0}));
    }
    wanted.resize(out.size(), '.');
    for (std::size_t i = 0; i < tensors.size(); ++i)
      wanted.replace((i * 7919 % 20'000) * 64, tensors[i].bytes.size(), tensors[i].bytes);
    const Result<LoadReport> report = load(plan, {.threads = 2});
    ASSERT_OK(report);
    EXPECT_TRUE(out == wanted);
    EXPECT_LE(plan.check().value().reads, 4u);
  }
}

TEST(LoadInputs, OnePlanFromTwoThreads) {
  const TempDir dir;
  std::vector<ModelTensor> tensors{{"t", Dtype::u8, {3'000'000}}};
  fill(tensors);
  const Checkpoint checkpoint = write_model(dir / "a", tensors);
  LoadPlan plan;
  FakeDevice device;  // whose copies are made under a lock: the destinations allow it
  Target target(3'000'000);
  ASSERT_OK(plan.add(checkpoint, "t", target.destination(&device)));
  std::thread other([&] { EXPECT_OK(load(plan, {.threads = 2})); });
  EXPECT_OK(load(plan, {.threads = 2}));
  other.join();
  EXPECT_TRUE(target.bytes() == tensors[0].bytes);
}

}  // namespace
}  // namespace flatbed
