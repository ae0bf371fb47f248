// load_together() where something is wrong: it ends on every rank, with an error that says where,
// and no rank reports success without its bytes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "ranks/joint_model.hpp"
#include "ranks/plan_description.hpp"
#include "ranks/rank_link.hpp"
#include "support/fake_device.hpp"

// Staging memory that a transport may still read when a rank has died is left to it, for ever.
extern "C" __attribute__((visibility("default"))) const char* __lsan_default_suppressions() {
  return "leak:flatbed::try_allocate_large\n";
}

namespace flatbed::test {
namespace {

using namespace std::chrono_literals;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::StartsWith;

constexpr std::uint32_t kRanks = 3;

// Three ranks that want columns of one tensor and all of another.
class JointLoadFaults : public testing::Test {
 protected:
  JointLoadFaults() { fill(tensors_); }

  void make(bool seal = true) {
    bytes_ = file_bytes(tensors_, seal);
    for (std::uint32_t rank = 0; rank < kRanks; ++rank) add_rank(bytes_, rank);
  }
  void add_rank(const std::shared_ptr<const std::string>& bytes, std::uint32_t rank) {
    RankModel& model = models_.emplace_back(bytes);
    model.add(tensors_[0], part_of(tensors_[0], 1, rank, kRanks));
    model.add(tensors_[1], {});
  }

  void run(std::chrono::milliseconds deadline = 5min) {
    results_ = load_on(ranks_, models_, [&](std::uint32_t rank) {
      JointOptions options = options_[rank];
      options.load.threads = 2;
      if (options.load.staging_nbytes == LoadOptions{}.staging_nbytes)
        options.load.staging_nbytes = 8 << 20;
      options.deadline = deadline;
      return options;
    });
  }
  [[nodiscard]] const Result<JointReport>& result(std::uint32_t rank) const {
    return *results_[rank];
  }
  [[nodiscard]] std::string message(std::uint32_t rank) const {
    return result(rank) ? "success" : result(rank).error().message;
  }
  // A rank that reports success has everything.
  void expect_honest() {
    for (std::uint32_t rank = 0; rank < kRanks; ++rank)
      if (result(rank)) models_[rank].expect_all_arrived();
  }

  std::vector<ModelTensor> tensors_{{"a", Dtype::f32, {300, 600}}, {"b", Dtype::u8, {1 << 20}}};
  std::shared_ptr<const std::string> bytes_;
  FakeRanks ranks_{kRanks};
  std::deque<RankModel> models_;
  JointOptions options_[kRanks];
  std::vector<std::optional<Result<JointReport>>> results_;
};

TEST_F(JointLoadFaults, AreNoneWithoutAFault) {
  make();
  run();
  for (std::uint32_t rank = 0; rank < kRanks; ++rank) EXPECT_OK(result(rank));
  expect_honest();
}

TEST_F(JointLoadFaults, RefuseOtherContentsOnAllRanks) {
  make();
  std::vector<ModelTensor> others = tensors_;
  fill(others, 2);
  models_.pop_back();
  add_rank(file_bytes(others, true), 2);  // of the same size
  run();
  for (std::uint32_t rank = 0; rank < kRanks; ++rank) {
    EXPECT_ERROR(result(rank), collective_mismatch);
    EXPECT_EQ(message(rank),
              "rank 2: 'model.safetensors' is not the file of rank 0: found another header or "
              "other digests");
    EXPECT_LT(models_[rank].source().nbytes_read, 10'000U);  // nothing but headers
  }
}

TEST_F(JointLoadFaults, RefuseAnotherFileOnAllRanks) {
  make();
  std::vector<ModelTensor> others = tensors_;
  others.push_back({"c", Dtype::u8, {9}});
  fill(others);
  models_.pop_back();
  add_rank(file_bytes(others, true), 2);
  run();
  for (std::uint32_t rank = 0; rank < kRanks; ++rank) {
    EXPECT_ERROR(result(rank), collective_mismatch);
    EXPECT_THAT(message(rank), HasSubstr(" bytes, expected "));
  }
}

TEST_F(JointLoadFaults, RefuseOtherOptionsOnAllRanks) {
  make();
  options_[1].load.verify = Verify::no;
  run();
  for (std::uint32_t rank = 0; rank < kRanks; ++rank) {
    EXPECT_ERROR(result(rank), collective_mismatch);
    EXPECT_THAT(message(rank), StartsWith("rank 1: other options than rank 0"));
  }
}

TEST_F(JointLoadFaults, ATooSmallBudgetEndsAll) {
  make();
  options_[1].load.staging_nbytes = 1 << 20;
  options_[1].load.slot_nbytes = 512 << 10;
  run();
  EXPECT_ERROR(result(1), budget_too_small);
  for (const std::uint32_t rank : {0U, 2U}) {
    EXPECT_ERROR(result(rank), collective_ended);
    EXPECT_THAT(message(rank), StartsWith("rank 1 ended with budget_too_small: "));
  }
}

TEST_F(JointLoadFaults, ARankWithLessMemoryIsEnough) {
  make();
  options_[1].load.staging_nbytes = 2 << 20;
  options_[1].load.slot_nbytes = 512 << 10;
  run();
  for (std::uint32_t rank = 0; rank < kRanks; ++rank) EXPECT_OK(result(rank));
  expect_honest();
  EXPECT_LE(result(1)->load.peak_staging_nbytes, 3U << 20);
}

TEST_F(JointLoadFaults, ACorruptChunkIsNamedWithItsRank) {
  make();
  auto corrupt = std::make_shared<std::string>(*bytes_);
  corrupt->back() = static_cast<char>(corrupt->back() ^ 1);
  models_.clear();
  for (std::uint32_t rank = 0; rank < kRanks; ++rank) add_rank(corrupt, rank);
  run();
  std::uint32_t reader = kRanks;
  for (std::uint32_t rank = 0; rank < kRanks; ++rank) {
    ASSERT_FALSE(result(rank));
    if (result(rank).error().code == ErrorCode::chunk_corrupt) reader = rank;
  }
  ASSERT_LT(reader, kRanks);
  for (std::uint32_t rank = 0; rank < kRanks; ++rank) {
    if (rank == reader) continue;
    EXPECT_ERROR(result(rank), collective_ended);
    EXPECT_THAT(message(rank),
                StartsWith("rank " + std::to_string(reader) + " ended with chunk_corrupt: "));
  }
}

TEST_F(JointLoadFaults, AReadThatFailsEndsAll) {
  for (std::uint32_t bad = 0; bad < kRanks; ++bad) {
    for (int failing = 1; failing <= 3; ++failing) {
      models_.clear();
      make();
      std::atomic<int> reads = 0;
      models_[bad].source().before_read = [&](std::uint64_t) -> Result<void> {
        if (++reads == failing) return Error{ErrorCode::io_error, "the disk is broken"};
        return {};
      };
      run();
      if (reads < failing) continue;
      EXPECT_ERROR(result(bad), io_error);
      for (std::uint32_t rank = 0; rank < kRanks; ++rank) {
        if (rank == bad) continue;
        EXPECT_ERROR(result(rank), collective_ended);
        EXPECT_THAT(message(rank), StartsWith("rank " + std::to_string(bad) + " ended with "));
        EXPECT_THAT(message(rank), HasSubstr("the disk is broken"));
      }
    }
  }
}

TEST_F(JointLoadFaults, ADeviceThatFailsEndsAll) {
  make();
  FakeDevice device;
  device.faults.copy = 2;
  models_.pop_back();
  RankModel& model = models_.emplace_back(bytes_);
  model.add(tensors_[0], {}, &device);
  model.add(tensors_[1], {}, &device);
  run();
  EXPECT_FALSE(result(2));
  for (const std::uint32_t rank : {0U, 1U})
    EXPECT_THAT(message(rank), StartsWith("rank 2 ended with "));
  EXPECT_EQ(device.staged_nbytes(), 0U);
}

TEST_F(JointLoadFaults, ACancelEndsAll) {
  for (const std::uint64_t moment : {0U, 300'000U, 900'000U}) {
    models_.clear();
    make();
    std::atomic<bool> cancel = moment == 0;
    options_[1].load.cancel = &cancel;
    for (RankModel& model : models_) {
      model.source().before_read = [&cancel, moment](std::uint64_t offset) -> Result<void> {
        if (offset >= moment) cancel = true;
        return {};
      };
    }
    run();
    EXPECT_ERROR(result(1), cancelled);
    for (const std::uint32_t rank : {0U, 2U}) {
      EXPECT_ERROR(result(rank), collective_ended);
      EXPECT_THAT(message(rank), StartsWith("rank 1 ended with cancelled: "));
    }
  }
}

TEST_F(JointLoadFaults, ARankThatNeverComesIsNamed) {
  make();
  std::optional<Result<JointReport>> results[kRanks];
  ranks_.run([&](std::uint32_t rank) {
    if (rank == 1) return;
    results[rank].emplace(load_together(models_[rank].plan(), ranks_[rank], {.deadline = 200ms}));
  });
  for (const std::uint32_t rank : {0U, 2U}) {
    ASSERT_FALSE(*results[rank]);
    // A rank that is slow on a busy machine may be missed as well.
    EXPECT_THAT(results[rank]->error().message,
                ContainsRegex("ranks? (0 and )?1( and 2)? (was|were) not heard of for 200 ms"));
  }
}

// ---- a transport that fails ---------------------------------------------------------------------

// Whether the ranks are on one node, and read into memory that they share.
class JointLoadTransport : public JointLoadFaults, public testing::WithParamInterface<bool> {
 protected:
  void run_on(FakeRanks& ranks, std::chrono::milliseconds deadline) {
    if (GetParam()) ranks.ranks_of_node = kRanks;
    if (GetParam()) ranks.share(4 << 20);
    models_.clear();
    make();
    results_ = load_on(ranks, models_, [deadline](std::uint32_t) {
      return JointOptions{.load = {.threads = 2, .staging_nbytes = 8 << 20}, .deadline = deadline};
    });
    expect_honest();
  }
  static MessageKind kind_of(std::uint64_t tag) { return MessageTag::unpack(tag).kind; }
  // Whether the rank said to anybody that it was done: others may then report success.
  static bool has_finished(const FakeRanks& ranks, std::uint32_t rank) {
    return std::ranges::any_of(ranks.sent_tags(rank), [](std::uint64_t tag) {
      return kind_of(tag) == MessageKind::finished;
    });
  }
  [[nodiscard]] int failures() const {
    int count = 0;
    for (std::uint32_t rank = 0; rank < kRanks; ++rank) count += result(rank) ? 0 : 1;
    return count;
  }
};

INSTANTIATE_TEST_SUITE_P(Ways, JointLoadTransport, testing::Bool(), [](const auto& way) {
  return way.param ? std::string("shares") : std::string("sends");
});

TEST_P(JointLoadTransport, WithoutAFaultBringsAll) {
  FakeRanks ranks(kRanks);
  run_on(ranks, 5min);
  EXPECT_EQ(failures(), 0);
  EXPECT_EQ((**results_[0]).ranks[1].bytes_lent != 0, GetParam());
}

// What a rank does when another one dies in the middle of anything.
TEST_P(JointLoadTransport, ARankThatDiesEndsAll) {
  int deaths = 0;
  for (int moment = 1; moment < 2000; moment += 1 + moment / 2) {
    SCOPED_TRACE("at call " + std::to_string(moment));
    FakeRanks ranks(kRanks, static_cast<std::uint64_t>(moment));
    ranks.faults(1).die = moment;
    run_on(ranks, 100ms);
    if (!ranks.is_dead(1)) continue;
    ++deaths;
    // Otherwise it may have died when it had all it wanted, and everybody knew.
    if (!has_finished(ranks, 1)) {
      EXPECT_FALSE(result(1));
      EXPECT_EQ(failures(), 3);
    }
  }
  EXPECT_GT(deaths, 0);
}

TEST_P(JointLoadTransport, ACallThatFailsEndsAll) {
  using Fault = int FakeRanks::Faults::*;
  for (const Fault fault : {&FakeRanks::Faults::send, &FakeRanks::Faults::next,
                            &FakeRanks::Faults::receive, &FakeRanks::Faults::done}) {
    int faults = 0;
    for (int number = 1; number < 40; number += 1 + number / 2) {
      FakeRanks ranks(kRanks, static_cast<std::uint64_t>(number));
      ranks.faults(2).*fault = number;
      run_on(ranks, 100ms);
      if (!ranks.has_failed(2)) continue;
      ++faults;
      EXPECT_FALSE(result(2)) << number;
      if (!has_finished(ranks, 2)) {
        EXPECT_EQ(failures(), 3) << number;
      }
    }
    EXPECT_GT(faults, 0);
  }
}

// What a transport that has failed may still write is not given back. Messages come to staging
// memory of their own, what is read to that of the caller's pool.
TEST_F(JointLoadFaults, MemoryOfATransportThatFailedIsLeftToIt) {
  constexpr StagingOptions kPool{.staging_nbytes = 8 << 20, .slot_nbytes = 1 << 20};
  ranks_.faults(2).most_received = 64 << 10;  // more than anything but tensors
  make();
  FakeDevice device;
  auto pool = StagingPool::create(device, kPool).value();
  models_.pop_back();
  RankModel& model = models_.emplace_back(bytes_);
  for (const ModelTensor& tensor : tensors_) model.add(tensor, {}, &device);
  options_[2].load.pool = pool.get();
  run(100ms);
  EXPECT_THAT(message(2), HasSubstr("fake: done() failed"));
  EXPECT_THAT(message(2), ContainsRegex("; [0-9]+ bytes of staging memory to which messages"));
  // So may what it has sent, which is the pool's.
  const std::uint64_t of_pool = pool->abandoned_nbytes() != 0 ? kPool.staging_nbytes : 0;
  pool.reset();
  EXPECT_GT(device.staged_nbytes(), of_pool);
}

TEST_P(JointLoadTransport, AMessageThatIsLostEndsAll) {
  std::set<MessageKind> kinds;
  for (int number = 1; number < 16; ++number) {
    SCOPED_TRACE("message " + std::to_string(number));
    FakeRanks ranks(kRanks, static_cast<std::uint64_t>(number));
    ranks.faults(2).lose = number;
    run_on(ranks, 100ms);
    if (!ranks.lost(2)) continue;
    const MessageKind kind = kind_of(*ranks.lost(2));
    kinds.insert(kind);
    if (kind == MessageKind::alive || kind == MessageKind::ended) continue;
    if (kind == MessageKind::finished) {
      EXPECT_GE(failures(), 1);
    } else {
      EXPECT_EQ(failures(), 3);
    }
  }
  EXPECT_TRUE(kinds.contains(MessageKind::gather));
}

TEST_F(JointLoadFaults, AnOperationThatFailedDoesNotDisturbTheNext) {
  make();
  options_[1].load.verify = Verify::no;
  run();
  EXPECT_ERROR(result(0), collective_mismatch);
  options_[1].load.verify = Verify::yes;
  std::atomic<int> reads = 0;
  models_[2].source().before_read = [&](std::uint64_t) -> Result<void> {
    if (++reads == 2) return Error{ErrorCode::io_error, "the disk is broken"};
    return {};
  };
  run();
  EXPECT_FALSE(result(0));
  run();
  for (std::uint32_t rank = 0; rank < kRanks; ++rank) EXPECT_OK(result(rank));
  expect_honest();
}

// ---- what another process says ------------------------------------------------------------------

PlanDescription described() {
  PlanDescription description;
  description.slot_nbytes = 1 << 20;
  description.turns = 1;
  description.files.push_back({"a", {1000, 7}, 4096});
  description.tensors.push_back({0, 100, 900, 0});
  description.transfers.push_back({0, 0, 0, 10, 3, 100});
  return description;
}

TEST(PlanDescription, IsReadAsItWasWritten) {
  const auto decoded = decode_description(encode_description(described()));
  ASSERT_OK(decoded);
  EXPECT_EQ(encode_description(*decoded), encode_description(described()));
}

TEST(PlanDescription, IsRefusedWhereItIsMalformed) {
  const Bytes whole = encode_description(described());
  for (std::size_t length = 0; length < whole.size(); ++length)
    EXPECT_ERROR(decode_description(std::span(whole).first(length)), collective_mismatch);
  const auto refuse = [](const std::function<void(PlanDescription&)>& change) {
    PlanDescription description = described();
    change(description);
    EXPECT_ERROR(decode_description(encode_description(description)), collective_mismatch);
  };
  refuse([](PlanDescription& each) { each.slot_nbytes = 0; });
  refuse([](PlanDescription& each) { each.turns = ~0U; });
  refuse([](PlanDescription& each) { each.tensors[0].file = 1; });
  refuse([](PlanDescription& each) { each.tensors[0].nbytes = 901; });
  refuse([](PlanDescription& each) { each.tensors[0].offset = ~std::uint64_t{0}; });
  refuse([](PlanDescription& each) { each.transfers[0].tensor = 1; });
  refuse([](PlanDescription& each) { each.transfers[0].turn = 1; });
  refuse([](PlanDescription& each) { each.transfers[0].source = 691; });
  refuse([](PlanDescription& each) { each.transfers[0].runs = 0; });
  refuse([](PlanDescription& each) { each.transfers[0].run_pitch = 9; });
  refuse([](PlanDescription& each) { each.transfers[0].runs = std::uint64_t{1} << 63; });
  refuse([](PlanDescription& each) { each.transfers[0].run_pitch = ~std::uint64_t{0}; });
}

TEST(PlanDescription, OfAnotherProtocolIsRefused) {
  Bytes other = encode_description(described());
  other[14] = std::byte{9};  // after the length and "flatbed ranks"
  const auto decoded = decode_description(other);
  EXPECT_ERROR(decoded, collective_mismatch);
  EXPECT_THAT(decoded.error().message, HasSubstr("found 9, expected 2"));
}

TEST(PlanDescription, SurvivesBytesThatChange) {
  const Bytes whole = encode_description(described());
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      Bytes changed = whole;
      changed[at] ^= static_cast<std::byte>(1 << bit);
      static_cast<void>(decode_description(changed));
    }
  }
}

}  // namespace
}  // namespace flatbed::test
