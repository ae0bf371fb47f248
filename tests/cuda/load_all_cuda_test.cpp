// load_all() to GPUs of the fake runtime: what arrives, what an engine may do with a layer that is
// ready, and what is left after an error.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "flatbed/load_all.hpp"
#include "support/expect_error.hpp"
#include "support/fake_cuda.hpp"
#include "support/load_gpu.hpp"
#include "support/load_model.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::CallersThread;
using test::fill;
using test::Gpus;
using test::make_gpus;
using test::ModelTensor;
using test::TempDir;
using test::write_model;
using testing::ElementsAre;
using testing::IsEmpty;

struct Model {
  TempDir dir;
  std::vector<ModelTensor> tensors{{"embed", Dtype::u8, {300'000}},
                                   {"layers.0.w", Dtype::bf16, {600, 400}},
                                   {"layers.1.w", Dtype::bf16, {600, 400}},
                                   {"layers.1.b", Dtype::f32, {3}}};
  Checkpoint checkpoint = write();
  Checkpoint write() {
    fill(tensors);
    return write_model(dir / "a", tensors);
  }
};

LoadAllOptions by_layer() {
  LoadAllOptions options;
  options.group = group_by_layer;
  options.load.threads = 2;
  options.load.staging_nbytes = 1 << 20;
  options.load.slot_nbytes = 512 << 10;
  return options;
}

std::string read_back(Device& gpu, const LoadedTensor& tensor) {
  std::string bytes(tensor.nbytes, '\0');
  EXPECT_OK(gpu.memory()->read_back(tensor.data, std::as_writable_bytes(std::span(bytes))));
  return bytes;
}

TEST(LoadAllToGpus, BringsEveryTensorToOneAllocationOfTheGpu) {
  const Model model;
  FakeCuda fake({.devices = 2});
  {
    const Gpus gpus = make_gpus(fake, 2);
    const CallersThread caller(fake);
    const Result<LoadedTensors> loaded = load_all(model.checkpoint, *gpus[1], by_layer());
    ASSERT_OK(loaded);
    caller.expect_untouched();
    EXPECT_EQ(fake.calls("Malloc"), 1U);
    for (const ModelTensor& tensor : model.tensors)
      EXPECT_TRUE(read_back(*gpus[1], *loaded->find(tensor.name)) == tensor.bytes) << tensor.name;
  }
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

// What an engine does that computes with a layer while the next ones are still loading.
TEST(LoadAllToGpus, LetsAStreamUseALayerOnceItIsReady) {
  const Model model;
  FakeCuda fake;
  {
    const Gpus gpus = make_gpus(fake, 1);
    const cudaStream_t stream = fake.engine_stream(0);
    std::span<const LoadedTensor> tensors;
    std::vector<std::uint32_t> groups;
    LoadAllOptions options = by_layer();
    options.placed = [&](const LoadedTensors& loaded) -> Result<void> {
      tensors = loaded.tensors();
      return {};
    };
    options.load.ready = [&](const GroupReady& ready) -> Result<void> {
      groups.push_back(ready.group);
      fake.engine_wait(stream, static_cast<cudaEvent_t>(ready.events[0].event));
      for (const LoadedTensor& tensor : tensors) {
        if (tensor.group == ready.group) fake.engine_read(stream, tensor.data, tensor.nbytes);
      }
      return {};
    };
    const Result<LoadedTensors> loaded = load_all(model.checkpoint, *gpus[0], options);
    ASSERT_OK(loaded);
    EXPECT_THAT(groups, ElementsAre(kNoLayer, 0U, 1U));
    EXPECT_EQ(tensors.data(), loaded->tensors().data());
    EXPECT_TRUE(fake.engine_finish(stream));
  }
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

TEST(LoadAllToGpus, GivesTheMemoryBackAfterAnError) {
  const Model model;
  for (const char* const call : {"Malloc", "MemcpyAsync", "EventRecord"}) {
    FakeCuda fake;
    {
      const Gpus gpus = make_gpus(fake, 1);
      fake.fail({.call = call});
      const Result<LoadedTensors> loaded = load_all(model.checkpoint, *gpus[0], by_layer());
      EXPECT_ERROR(loaded, device_error) << call;
      EXPECT_TRUE(fake.injection_fired()) << call;
      EXPECT_EQ(fake.calls("Free"), fake.calls("Malloc") - (call == std::string("Malloc") ? 1 : 0));
    }
    EXPECT_THAT(fake.ledger(), IsEmpty()) << call;
  }
}

// Nothing is under way any more when the callback's error comes back.
TEST(LoadAllToGpus, StopsAtAnErrorOfTheCallback) {
  const Model model;
  FakeCuda fake;
  {
    const Gpus gpus = make_gpus(fake, 1);
    LoadAllOptions options = by_layer();
    options.load.ready = [](const GroupReady& ready) -> Result<void> {
      if (ready.group != 0) return {};
      return Error{ErrorCode::limit_exceeded, "layer 0 does not fit"};
    };
    EXPECT_ERROR(load_all(model.checkpoint, *gpus[0], options), limit_exceeded);
    EXPECT_EQ(fake.calls("Free"), 1U);
  }
  EXPECT_THAT(fake.ledger(), IsEmpty());
}

}  // namespace
}  // namespace flatbed
