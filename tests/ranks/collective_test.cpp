// The functions that wait for messages, and how they notice ranks that do not answer.
#include "flatbed/collective.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <deque>
#include <string>
#include <thread>

#include "base/bytes.hpp"
#include "ranks/rank_link.hpp"
#include "support/expect_error.hpp"
#include "support/fake_collective.hpp"

namespace flatbed::test {
namespace {

using namespace std::chrono_literals;

std::string text(const std::vector<std::byte>& bytes) { return std::string(as_text(bytes)); }

TEST(Collective, GathersTheBytesOfEveryRank) {
  for (std::uint32_t size = 1; size <= 8; ++size) {
    FakeRanks ranks(size, size);
    ranks.run([&](std::uint32_t rank) {
      for (unsigned round = 0U; round < 3; ++round) {
        // One is short and the next one long.
        const std::string mine(round == 1 ? 100'000 : 1, static_cast<char>('a' + rank + round));
        const auto all = all_gather(ranks[rank], as_bytes(mine), 5min);
        ASSERT_TRUE(all) << all.error().message;
        ASSERT_EQ(all->size(), size);
        for (std::uint32_t i = 0; i < size; ++i)
          EXPECT_EQ(text((*all)[i]), std::string(mine.size(), static_cast<char>('a' + i + round)));
      }
    });
  }
}

TEST(Collective, NamesTheRanksThatAreMissing) {
  FakeRanks ranks(4);
  // One after the other: rank 2 has given up, and rank 0 still finds what it sent.
  EXPECT_ERROR(all_gather(ranks[2], as_bytes("x"), 100ms), collective_timeout);
  const auto all = all_gather(ranks[0], as_bytes("x"), 1s);
  EXPECT_ERROR(all, collective_timeout);
  EXPECT_EQ(all.error().message, "ranks 1 and 3 were not heard of for 1000 ms");
}

TEST(Collective, EndsIfARankHasLeftThatDoesNotTakeWhatIsSent) {
  FakeRanks ranks(2);
  EXPECT_ERROR(all_gather(ranks[1], as_bytes("x"), 100ms), collective_timeout);
  const std::string large(5000, 'x');
  EXPECT_ERROR(all_gather(ranks[0], as_bytes(large), 100ms), collective_timeout);
}

TEST(Collective, WaitsForAsLongAsOneLikes) {
  FakeRanks ranks(2);
  ranks.run([&](std::uint32_t rank) {
    EXPECT_OK(all_gather(ranks[rank], as_bytes("x"), std::chrono::milliseconds::max()));
  });
}

TEST(Collective, DealsOutWorkByMessages) {
  FakeRanks ranks(3);
  ranks.run([&](std::uint32_t rank) {
    // A message may overtake an exchange that its receiver has not finished.
    ASSERT_TRUE(all_gather(ranks[rank], as_bytes("begin"), 5min));
    if (rank != 0) {
      const std::string mine(rank * 2000, 'x');
      ASSERT_TRUE(send_message(ranks[rank], {.to = 0, .tag = rank}, as_bytes(mine), 5min));
      const auto answer = next_message(ranks[rank], 5min);
      ASSERT_TRUE(answer) << answer.error().message;
      EXPECT_EQ(text(answer->bytes), "done");
    } else {
      for (int i = 0; i < 2; ++i) {
        const auto question = next_message(ranks[0], 5min);
        ASSERT_TRUE(question) << question.error().message;
        EXPECT_EQ(question->tag, question->from);
        EXPECT_EQ(question->bytes.size(), question->from * 2000);
        ASSERT_TRUE(
            send_message(ranks[0], {.to = question->from, .tag = 7}, as_bytes("done"), 5min));
      }
    }
    ASSERT_TRUE(all_gather(ranks[rank], as_bytes("end"), 5min));
  });
}

TEST(Collective, RefusesWhatCannotBeSent) {
  FakeRanks ranks(2);
  EXPECT_ERROR(send_message(ranks[0], {.to = 0, .tag = 0}, {}, 1ms), invalid_argument);
  EXPECT_ERROR(send_message(ranks[0], {.to = 2, .tag = 0}, {}, 1ms), invalid_argument);
  EXPECT_ERROR(send_message(ranks[0], {.to = 1, .tag = kMaxMessageTag}, {}, 1ms), invalid_argument);
}

TEST(Collective, EndsAtTheDeadline) {
  FakeRanks ranks(2);
  EXPECT_ERROR(next_message(ranks[0], 20ms), collective_timeout);
  const std::string large(5000, 'x');  // which nobody receives
  const Result<void> sent = send_message(ranks[0], {.to = 1, .tag = 0}, as_bytes(large), 20ms);
  EXPECT_ERROR(sent, collective_timeout);
  EXPECT_THAT(sent.error().message, testing::StartsWith("rank 1: "));
}

TEST(Collective, ReturnsTheErrorsOfTheTransport) {
  using Fault = int FakeRanks::Faults::*;
  for (const Fault fault : {&FakeRanks::Faults::send, &FakeRanks::Faults::next,
                            &FakeRanks::Faults::receive, &FakeRanks::Faults::done}) {
    FakeRanks ranks(2);
    ranks.faults(0).*fault = 1;
    ranks.run([&](std::uint32_t rank) {
      const auto all = all_gather(ranks[rank], as_bytes("x"), 100ms);
      if (rank == 0) {
        EXPECT_ERROR(all, collective_failed);
      }
    });
  }
}

// Announces what a test has written down, and fails to receive, or is late with, what it says.
class ScriptedCollective final : public Collective {
 public:
  std::deque<Incoming> announced;
  std::uint64_t failing = 0;  // the id of a message; likewise for the late one
  std::uint64_t late = 0;
  std::uint32_t ranks = 2;

  [[nodiscard]] std::uint32_t rank() const noexcept override { return 0; }
  [[nodiscard]] std::uint32_t size() const noexcept override { return ranks; }
  Result<Ticket> send(const MessageAddress&, std::span<const std::byte>) override { return 0; }
  Result<std::optional<Incoming>> next() override {
    if (announced.empty()) return std::optional<Incoming>();
    const Incoming message = announced.front();
    announced.pop_front();
    return std::optional(message);
  }
  Result<Ticket> receive(const Incoming& message, std::span<std::byte>) override {
    if (message.id == failing) return Error{ErrorCode::collective_failed, "the line is cut"};
    return Ticket{message.id};
  }
  Result<bool> done(Ticket ticket) override { return ticket == 0 || ticket != late; }
  [[nodiscard]] bool forget(Ticket ticket) noexcept override { return ticket != late; }
};

TEST(Collective, AMessageThatArrivesAfterTheDeadlineIsTheNextOne) {
  ScriptedCollective ranks;
  ranks.announced = {{.from = 1, .tag = 5, .nbytes = 3, .id = 1}};
  ranks.late = 1;
  const Result<Message> late = next_message(ranks, 0ms);
  EXPECT_ERROR(late, collective_timeout);
  EXPECT_THAT(late.error().message, testing::StartsWith("rank 1: "));
  ranks.late = 0;
  const Result<Message> message = next_message(ranks, 0ms);
  ASSERT_TRUE(message) << message.error().message;
  EXPECT_EQ(message->tag, 5u);
  EXPECT_EQ(message->bytes.size(), 3u);
  EXPECT_ERROR(next_message(ranks, 0ms), collective_timeout);
}

TEST(Collective, AMessageThatIsLateKeepsThoseOfOtherRanksNotWaiting) {
  ScriptedCollective ranks;
  ranks.ranks = 3;
  ranks.announced = {{.from = 1, .tag = 10, .nbytes = 3, .id = 1},
                     {.from = 1, .tag = 11, .nbytes = 3, .id = 2},
                     {.from = 2, .tag = 20, .nbytes = 3, .id = 3}};
  ranks.late = 1;
  EXPECT_EQ(next_message(ranks, 0ms).value().tag, 20u);
  EXPECT_ERROR(next_message(ranks, 0ms), collective_timeout);
  ranks.late = 0;
  EXPECT_EQ(next_message(ranks, 0ms).value().tag, 10u);
  EXPECT_EQ(next_message(ranks, 0ms).value().tag, 11u);
}

TEST(Collective, AnOperationThatFailsKeepsTheMessagesOfLaterOnes) {
  ScriptedCollective ranks;
  const auto tag = [](MessageKind kind, std::uint64_t operation) {
    return MessageTag{kind, operation, 0}.packed();
  };
  ranks.announced = {{1, tag(MessageKind::gather, 2), 1, 1},
                     {1, tag(MessageKind::user, 0), 1, 2},
                     {1, tag(MessageKind::gather, 3), 1, 3},
                     {1, tag(MessageKind::gather, 1), 1, 4}};
  ASSERT_OK(all_gather(ranks, as_bytes("x"), 10s));  // keeps the first three
  ranks.failing = 1;
  EXPECT_ERROR(all_gather(ranks, as_bytes("x"), 10s), collective_failed);
  EXPECT_OK(next_message(ranks, 0ms));
  EXPECT_OK(all_gather(ranks, as_bytes("x"), 10s));
}

}  // namespace
}  // namespace flatbed::test
