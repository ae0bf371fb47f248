// load_together(): what arrives is what load() brings, and every byte is read once.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "ranks/joint_model.hpp"
#include "support/fake_device.hpp"

namespace flatbed::test {
namespace {

using namespace std::chrono_literals;

struct Way {
  Cut cut;
  bool seal;
  bool on_device;
  bool shares = false;  // memory of one node, on which all ranks are
};

std::vector<ModelTensor> example() {
  std::vector<ModelTensor> tensors{
      {"scalar", Dtype::f32, {}},           {"odd", Dtype::u8, {13, 5, 8}},
      {"matrix", Dtype::f32, {300, 512}},   {"wide", Dtype::bf16, {16, 40'000}},
      {"long", Dtype::f32, {2048, 160}},    {"tail", Dtype::u8, {kChunk + 9}},
      {"square", Dtype::bf16, {512, 1024}},
  };
  fill(tensors);
  return tensors;
}

class JointLoadEveryWay : public testing::TestWithParam<Way> {};

TEST_P(JointLoadEveryWay, ReadsEveryByteOnceAndSendsWhatOthersWant) {
  const Way way = GetParam();
  const std::vector<ModelTensor> tensors = example();
  const auto bytes = file_bytes(tensors, way.seal);
  for (const std::uint32_t size : {1U, 2U, 3U, 4U, 7U, 8U}) {
    FakeRanks ranks(size, size);
    if (way.shares) ranks.ranks_of_node = size;
    if (way.shares) ranks.share(4 << 20);
    std::deque<FakeDevice> devices(size);
    std::deque<RankModel> models;
    std::uint64_t all = 0;
    for (std::uint32_t rank = 0; rank < size; ++rank) {
      RankModel& model = models.emplace_back(bytes);
      for (const ModelTensor& tensor : tensors)
        model.add(tensor, slice_for(tensor, way.cut, rank, size),
                  way.on_device ? &devices[rank] : nullptr);
      all += model.nbytes_wanted();
    }
    const auto results = load_on(ranks, models, [](std::uint32_t) {
      return JointOptions{.load = {.threads = 2, .staging_nbytes = 8 << 20}, .deadline = 5min};
    });
    std::uint64_t nbytes = 0;
    for (const ModelTensor& tensor : tensors) nbytes += tensor.bytes.size();
    std::uint64_t read = 0;
    std::uint64_t sent = 0;
    std::uint64_t received = 0;
    std::uint64_t lent = 0;
    for (std::uint32_t rank = 0; rank < size; ++rank) {
      ASSERT_OK(*results[rank]);
      const JointReport& report = **results[rank];
      models[rank].expect_all_arrived();
      read += models[rank].source().nbytes_read;
      sent += report.ranks[rank].bytes_sent;
      received += report.ranks[rank].bytes_received;
      lent += report.ranks[rank].bytes_lent;
      // Each rank has the same reports.
      ASSERT_EQ(report.ranks.size(), size);
      EXPECT_EQ(report.ranks[0].bytes_read, (**results[0]).load.bytes_read);
      EXPECT_EQ(report.load.bytes_wanted, models[rank].nbytes_wanted());
      EXPECT_EQ(report.load.bytes_verified, way.seal ? report.load.bytes_read : 0);
      EXPECT_LE(report.load.peak_staging_nbytes, 8U << 20);
    }
    // Once the file is open, headers are read again to compare them.
    EXPECT_LE(static_cast<double>(read), 1.02 * static_cast<double>(nbytes) + size * 40'000.0);
    EXPECT_EQ(sent, received);
    EXPECT_LE(sent, all);
    if (size > 1 && way.cut == Cut::whole) {
      // What is wanted by others than the one that reads it.
      EXPECT_EQ(sent, nbytes * (size - 1));
    }
    if (size == 1) {
      EXPECT_EQ(sent, 0U);
    }
    if (!way.shares || way.on_device) {
      EXPECT_EQ(lent, 0U);
    } else {  // all but small pieces
      EXPECT_LE(sent - lent, sent / 10);
    }
  }
}

std::string way_name(const testing::TestParamInfo<Way>& info) {
  const Way& way = info.param;
  return std::string(way.cut == Cut::rows      ? "rows"
                     : way.cut == Cut::columns ? "columns"
                                               : "whole") +
         (way.seal ? "_sealed" : "_unsealed") + (way.on_device ? "_device" : "_host") +
         (way.shares ? "_shares" : "");
}

INSTANTIATE_TEST_SUITE_P(
    Ways, JointLoadEveryWay,
    testing::Values(Way{Cut::rows, true, false}, Way{Cut::rows, false, true},
                    Way{Cut::columns, true, false}, Way{Cut::columns, true, true},
                    Way{Cut::columns, false, false}, Way{Cut::whole, true, true},
                    Way{Cut::whole, false, false}, Way{Cut::rows, true, false, true},
                    Way{Cut::columns, true, false, true}, Way{Cut::columns, false, true, true},
                    Way{Cut::whole, true, false, true}),
    way_name);

// ---- plans of any kind ------------------------------------------------------------------------

// Two plans of the same random items: one for load(), and one for load_together().
struct TwoPlans {
  LoadPlan alone;
  LoadPlan together;
  std::deque<std::pair<Target, Target>> targets;
};

void add_random(TwoPlans& plans, const Checkpoint& checkpoint, const ModelTensor& tensor,
                std::mt19937& random, Device* device) {
  LoadItem item;
  if (!tensor.shape.empty() && random() % 4 != 0) {
    item.slice.dim = random() % tensor.shape.size();
    const std::uint64_t size = tensor.shape[item.slice.dim];
    item.slice.begin = random() % (size + 1);
    item.slice.end = item.slice.begin + random() % (size - item.slice.begin + 1);
  }
  if (tensor.dtype == Dtype::f32 && random() % 5 == 0) item.as = Dtype::bf16;
  item.group = {static_cast<std::uint32_t>(random() % 3), 0};
  const TensorInfo info = checkpoint.tensor(tensor.name).value();
  std::uint64_t nbytes = slice_nbytes(info, item.slice).value();
  if (item.as) nbytes /= 2;
  auto& [alone, together] = plans.targets.emplace_back(Target(nbytes), Target(nbytes));
  ASSERT_OK(plans.alone.add(checkpoint, tensor.name, alone.destination(device), item));
  ASSERT_OK(plans.together.add(checkpoint, tensor.name, together.destination(device), item));
}

TEST(JointLoadRandom, BringsWhatEachRankWouldLoadAlone) {
  for (std::uint32_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    std::vector<ModelTensor> tensors = example();
    const bool seal = random() % 3 != 0;
    const auto bytes = file_bytes(tensors, seal);
    const auto size = static_cast<std::uint32_t>(2 + random() % 5);
    FakeRanks ranks(size, seed);
    ranks.pause_us = random() % 2 == 0 ? 0 : 300;
    ranks.ranks_of_node = 1 + seed % 3;
    if (seed % 2 == 0) ranks.share(4 << 20);
    std::deque<FakeDevice> devices(size);
    std::deque<TwoPlans> plans(size);
    for (TwoPlans& each : plans) {
      const auto source = std::make_shared<CountingSource>(bytes);
      const Checkpoint checkpoint = Checkpoint::open(source).value();
      FakeDevice& device = devices[static_cast<std::size_t>(&each - &plans.front()) % size];
      for (auto i = random() % 12; i-- > 0;)
        add_random(each, checkpoint, tensors[random() % tensors.size()], random,
                   random() % 2 == 0 ? &device : nullptr);
    }
    std::vector<std::optional<Result<JointReport>>> results(size);
    std::vector<std::uint64_t> staging;
    const bool in_place = random() % 2 == 0;
    for (std::uint32_t rank = 0; rank < size; ++rank) staging.push_back((4 + random() % 7) << 20);
    ranks.run([&](std::uint32_t rank) {
      const LoadOptions options{.threads = 1 + rank % 3,
                                .staging_nbytes = staging[rank],
                                .slot_nbytes = 512U << 10 << rank % 2};
      results[rank].emplace(
          load_together(plans[rank].together, ranks[rank],
                        {.load = options, .deadline = 5min, .receive_in_place = in_place}));
    });
    for (std::uint32_t rank = 0; rank < size; ++rank) {
      ASSERT_OK(*results[rank]);
      ASSERT_OK(load(plans[rank].alone));
      for (auto& [alone, together] : plans[rank].targets) {
        EXPECT_TRUE(alone.bytes() == together.bytes());
        EXPECT_TRUE(together.border_is_whole());
      }
    }
  }
}

// ---- nodes --------------------------------------------------------------------------------------

constexpr std::uint64_t kJob = 2 * kChunk;  // that fit into a slot
constexpr std::uint64_t kTensor = 4 * kJob;

// Four ranks on two nodes.
class JointLoadOfTwoNodes : public testing::Test {
 protected:
  JointLoadOfTwoNodes() {
    fill(tensors_);
    const auto bytes = file_bytes(tensors_, true);
    for (std::uint32_t rank = 0; rank < 4; ++rank) models_.emplace_back(bytes);
  }
  [[nodiscard]] std::vector<RankReport> run(std::uint32_t ranks_of_node) {
    FakeRanks ranks(4);
    ranks.ranks_of_node = ranks_of_node;
    if (shared_nbytes_ != 0) ranks.share(shared_nbytes_);
    const auto results = load_on(ranks, models_, [](std::uint32_t) {
      return JointOptions{.load = {.threads = 1, .staging_nbytes = 4 << 20, .slot_nbytes = kJob},
                          .deadline = 5min};
    });
    for (std::uint32_t rank = 0; rank < 4; ++rank) {
      if (!*results[rank]) ADD_FAILURE() << (*results[rank]).error().message;
      models_[rank].expect_all_arrived();
    }
    return *results[0] ? (**results[0]).ranks : std::vector<RankReport>(4);
  }

  std::vector<ModelTensor> tensors_{{"a", Dtype::u8, {kTensor}},
                                    {"b", Dtype::u8, {kTensor}},
                                    {"c", Dtype::u8, {kTensor}},
                                    {"d", Dtype::u8, {kTensor}}};
  std::deque<RankModel> models_;
  std::size_t shared_nbytes_ = 0;
};

TEST_F(JointLoadOfTwoNodes, IsReadWhereItIsWanted) {
  for (const std::size_t tensor : {0U, 1U, 2U}) models_[0].add(tensors_[tensor], {});
  models_[2].add(tensors_[3], {});
  models_[1].add(tensors_[0], {0, 0, 1});  // so that they have the file open
  models_[3].add(tensors_[3], {0, 0, 1});
  const std::vector<RankReport> ranks = run(2);
  // The node of rank 0 reads half of the file, and a job more for each rank, of the three quarters
  // that are wanted there: rank 1 reads what it has no use for. The rest crosses.
  EXPECT_EQ(ranks[0].bytes_read + ranks[1].bytes_read, 10 * kJob);
  EXPECT_GE(ranks[1].bytes_sent, 4 * kJob);
  std::uint64_t across = 0;
  for (const RankReport& rank : ranks) across += rank.bytes_sent_across;
  EXPECT_EQ(across, 2 * kJob);
}

TEST_F(JointLoadOfTwoNodes, DoNotShareWhatNobodyElseOnThemWants) {
  for (const std::uint32_t rank : {0U, 1U}) {
    models_[rank].add(tensors_[0], {});
    models_[rank].add(tensors_[1], {});
    models_[rank + 2].add(tensors_[2], {});
    models_[rank + 2].add(tensors_[3], {});
  }
  for (const RankReport& rank : run(2)) {
    EXPECT_EQ(rank.bytes_read, kTensor);
    EXPECT_EQ(rank.bytes_sent, kTensor);
    EXPECT_EQ(rank.bytes_sent_across, 0U);
  }
}

TEST_F(JointLoadOfTwoNodes, SharesMemoryOnANodeAndSendsToTheOther) {
  for (RankModel& model : models_)
    for (const ModelTensor& tensor : tensors_) model.add(tensor, {});
  shared_nbytes_ = 2 << 20;
  for (const RankReport& rank : run(2)) {
    EXPECT_EQ(rank.bytes_read, kTensor);
    EXPECT_EQ(rank.bytes_lent, kTensor);             // to the other rank of the node
    EXPECT_EQ(rank.bytes_sent_across, 2 * kTensor);  // to both ranks of the other one
    EXPECT_EQ(rank.bytes_sent, 3 * kTensor);
    EXPECT_EQ(rank.bytes_received, 3 * kTensor);
  }
}

TEST_F(JointLoadOfTwoNodes, SendsWhereTheSharedMemoryIsTooSmall) {
  for (RankModel& model : models_) model.add(tensors_[0], {});
  shared_nbytes_ = kJob;  // less than two slots
  for (const RankReport& rank : run(2)) {
    EXPECT_EQ(rank.bytes_sent, 3 * kJob);
    EXPECT_EQ(rank.bytes_lent, 0U);
  }
}

TEST_F(JointLoadOfTwoNodes, CountsAllAsCrossingIfEveryRankIsANode) {
  for (RankModel& model : models_) model.add(tensors_[0], {});
  for (const RankReport& rank : run(1)) {
    EXPECT_EQ(rank.bytes_sent, 3 * kJob);
    EXPECT_EQ(rank.bytes_sent_across, rank.bytes_sent);
  }
}

// ---- several models in one plan -----------------------------------------------------------------

// Two models of one kind, which differ in nothing but their bytes, on two ranks that want both.
class JointLoadOfTwoModels : public testing::Test {
 protected:
  void run(const std::string& other_label, bool seal, std::uint64_t other_rows = 300) {
    std::vector<ModelTensor> a{{"w", Dtype::f32, {300, 600}}};
    std::vector<ModelTensor> b{{"w", Dtype::f32, {other_rows, 600}}};
    fill(a, 1);
    fill(b, 2);
    const auto of_a = file_bytes(a, seal);
    const auto of_b = file_bytes(b, seal);
    FakeRanks ranks(2);
    std::deque<std::pair<Target, Target>> targets;
    std::deque<LoadPlan> plans(2);
    for (LoadPlan& plan : plans) {
      auto& [x, y] = targets.emplace_back(Target(a[0].bytes.size()), Target(b[0].bytes.size()));
      const auto one =
          Checkpoint::open(std::make_shared<CountingSource>(of_a, "model.safetensors")).value();
      const auto two =
          Checkpoint::open(std::make_shared<CountingSource>(of_b, other_label)).value();
      ASSERT_OK(plan.add(one, "w", x.destination(nullptr), {}));
      ASSERT_OK(plan.add(two, "w", y.destination(nullptr), {}));
    }
    results_.resize(2);
    ranks.run([&](std::uint32_t rank) {
      results_[rank].emplace(load_together(plans[rank], ranks[rank], {.deadline = 5min}));
    });
    for (std::uint32_t rank = 0; rank < 2; ++rank) {
      if (!*results_[rank]) continue;
      EXPECT_TRUE(targets[rank].first.bytes() == a[0].bytes);
      EXPECT_TRUE(targets[rank].second.bytes() == b[0].bytes);
    }
  }
  std::vector<std::optional<Result<JointReport>>> results_;
};

TEST_F(JointLoadOfTwoModels, KeepsThemApartByTheirNames) {
  run("other.safetensors", false);
  for (const auto& result : results_) EXPECT_OK(*result);
}

TEST_F(JointLoadOfTwoModels, KeepsThemApartByTheirDigests) {
  run("model.safetensors", true);
  for (const auto& result : results_) EXPECT_OK(*result);
}

TEST_F(JointLoadOfTwoModels, KeepsThemApartByTheirHeaders) {
  run("model.safetensors", false, 200);
  for (const auto& result : results_) EXPECT_OK(*result);
}

TEST_F(JointLoadOfTwoModels, IsRefusedIfNothingTellsThemApart) {
  run("model.safetensors", false);
  for (const auto& result : results_) EXPECT_ERROR(*result, collective_mismatch);
}

}  // namespace
}  // namespace flatbed::test
