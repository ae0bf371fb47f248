// PieceQueue and PieceRunner: every byte once, whole chunks, bounded pieces, and one error stops
// all.
#include "save/pieces.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <vector>

#include "base/str_cat.hpp"
#include "support/expect_error.hpp"

namespace flatbed {
namespace {

using safetensors::kChunkBytes;

constexpr std::size_t kMost = 4 * kChunkBytes;

struct Cut {
  std::size_t run;
  std::uint64_t skip;
  std::size_t nbytes;
  bool operator==(const Cut&) const = default;
};

std::vector<Cut> cuts_of(std::vector<Run> runs) {
  PieceQueue queue(std::move(runs), kMost);
  std::vector<Cut> cuts;
  while (const std::optional<Piece> piece = queue.next()) {
    cuts.push_back({piece->run, piece->skip, piece->nbytes});
  }
  return cuts;
}

TEST(PieceQueue, CutsALargeTensorAtItsChunks) {
  EXPECT_EQ(cuts_of({{0, 0, 100, 2 * kMost + 5}}),
            (std::vector<Cut>{{0, 0, kMost}, {0, kMost, kMost}, {0, 2 * kMost, 5}}));
}

TEST(PieceQueue, JoinsSmallNeighbours) {
  EXPECT_EQ(cuts_of({{7, 0, 100, 10}, {8, 0, 110, 20}, {9, 0, 130, 30}}),
            (std::vector<Cut>{{0, 0, 60}}));
}

TEST(PieceQueue, EndsAPieceAtAGapAndAtAnotherFile) {
  EXPECT_EQ(cuts_of({{0, 0, 100, 10}, {1, 0, 111, 10}, {2, 1, 121, 10}}),
            (std::vector<Cut>{{0, 0, 10}, {1, 0, 10}, {2, 0, 10}}));
}

TEST(PieceQueue, KeepsTensorsWholeThatDoNotFitTheRest) {
  EXPECT_EQ(cuts_of({{0, 0, 0, kMost - 1}, {1, 0, kMost - 1, 2}, {2, 0, kMost + 1, 2 * kMost}}),
            (std::vector<Cut>{{0, 0, kMost - 1}, {1, 0, 2}, {2, 0, kMost}, {2, kMost, kMost}}));
}

TEST(PieceQueue, LetsTheTailOfATensorShareItsPiece) {
  EXPECT_EQ(cuts_of({{0, 0, 0, kMost + 3}, {1, 0, kMost + 3, 4}}),
            (std::vector<Cut>{{0, 0, kMost}, {0, kMost, 7}}));
}

TEST(PieceQueue, PassesOverEmptyTensors) {
  EXPECT_EQ(cuts_of({}), std::vector<Cut>{});
  EXPECT_EQ(cuts_of({{0, 0, 5, 0}, {1, 0, 5, 0}}), std::vector<Cut>{});
  EXPECT_EQ(cuts_of({{0, 0, 5, 0}, {1, 0, 5, 3}, {2, 0, 8, 0}, {3, 0, 8, 1}, {4, 0, 9, 0}}),
            (std::vector<Cut>{{1, 0, 4}}));
}

TEST(PieceQueue, NeedsNoMoreThanItsRuns) {
  EXPECT_EQ(PieceQueue({{0, 0, 0, 10}, {1, 0, 90, 20}}, kMost).piece_nbytes(), 30u);
  EXPECT_EQ(PieceQueue({{0, 0, 0, kMost + 1}}, kMost).piece_nbytes(), kMost);
  EXPECT_EQ(PieceQueue({}, kMost).piece_nbytes(), 0u);
}

// Of tensors whose strides are 0: a diff() reads them too.
TEST(PieceQueue, HasRoomForAPieceOfMoreBytesThanCanBeCounted) {
  constexpr std::uint64_t kHalf = std::uint64_t{1} << 63;
  PieceQueue queue({{0, 0, 0, kHalf}, {1, 0, kHalf, kHalf}}, kMost);
  EXPECT_EQ(queue.piece_nbytes(), kMost);
  EXPECT_EQ(queue.nbytes(), ~std::uint64_t{0});
  ASSERT_TRUE(queue.next());
}

TEST(ForEachChunk, VisitsTheChunksOfEachTensor) {
  PieceQueue queue({{5, 0, 0, kMost + kChunkBytes + 3}, {6, 0, kMost + kChunkBytes + 3, 4}}, kMost);
  std::vector<std::byte> buffer(kMost);
  static_cast<void>(queue.next());
  const std::optional<Piece> second = queue.next();
  std::vector<Cut> seen;
  EXPECT_OK(for_each_chunk(queue, *second, std::span(buffer),
                           [&](const flatbed::Run& run, std::uint64_t chunk,
                               std::span<std::byte> bytes) -> Result<void> {
                             EXPECT_GE(bytes.data(), buffer.data());
                             seen.push_back({run.tensor, chunk, bytes.size()});
                             return {};
                           }));
  EXPECT_EQ(seen, (std::vector<Cut>{{5, 4, kChunkBytes}, {5, 5, 3}, {6, 0, 4}}));
}

const ProgressCallback kNoProgress;

TEST(PieceRunner, WorksThroughEveryByteOnce) {
  for (const unsigned threads : {1U, 4U}) {
    PieceQueue queue({{0, 0, 0, 10 * kMost}, {1, 0, 10 * kMost, 77}}, kMost);
    PieceRunner runner({kNoProgress, nullptr, queue.nbytes()});
    std::atomic<std::uint64_t> bytes = 0;
    EXPECT_OK(runner.run(queue, threads,
                         [&](const Piece& piece, std::span<std::byte> buffer) -> Result<void> {
                           EXPECT_EQ(buffer.size(), kMost);
                           bytes += piece.nbytes;
                           return {};
                         }));
    EXPECT_EQ(bytes, 10 * kMost + 77);
  }
}

TEST(PieceRunner, StopsAtTheFirstError) {
  PieceQueue queue({{0, 0, 0, 1000 * kMost}}, kMost);
  PieceRunner runner({kNoProgress, nullptr, queue.nbytes()});
  std::atomic<int> calls = 0;
  EXPECT_ERROR(runner.run(queue, 2,
                          [&](const Piece&, std::span<std::byte>) -> Result<void> {
                            ++calls;
                            return make_error(ErrorCode::io_error, "no");
                          }),
               io_error);
  EXPECT_LE(calls, 2);
}

TEST(PieceRunner, StopsWhenItIsCancelled) {
  PieceQueue queue({{0, 0, 0, 1000 * kMost}}, kMost);
  std::atomic<bool> cancel = false;
  PieceRunner runner({kNoProgress, &cancel, queue.nbytes()});
  int calls = 0;
  const Result<void> result =
      runner.run(queue, 1, [&](const Piece&, std::span<std::byte>) -> Result<void> {
        cancel = ++calls == 3;
        return {};
      });
  EXPECT_ERROR(result, cancelled);
  EXPECT_EQ(calls, 3);
}

TEST(PieceRunner, StopsAtAnErrorOfTheProgress) {
  PieceQueue queue({{0, 0, 0, 1000 * kMost}}, kMost);
  int calls = 0;
  const ProgressCallback progress = [&](const Progress&) -> Result<void> {
    ++calls;
    return make_error(ErrorCode::no_space, "enough");
  };
  PieceRunner runner({progress, nullptr, queue.nbytes()});
  int pieces = 0;
  EXPECT_ERROR(runner.run(queue, 1,
                          [&](const Piece&, std::span<std::byte>) -> Result<void> {
                            ++pieces;
                            return {};
                          }),
               no_space);
  EXPECT_EQ(calls, 1);
  EXPECT_LT(pieces, 1000);
}

TEST(PieceRunner, ReportsProgressOverSeveralQueues) {
  std::vector<std::uint64_t> done;
  const ProgressCallback progress = [&](const Progress& now) -> Result<void> {
    EXPECT_EQ(now.bytes_total, 40 * kMost + 1);
    done.push_back(now.bytes_done);
    return {};
  };
  PieceQueue first({{0, 0, 0, 40 * kMost}}, kMost);
  PieceQueue second({{1, 0, 0, 1}}, kMost);
  PieceRunner runner({progress, nullptr, first.nbytes() + second.nbytes()});
  const auto nothing = [](const Piece&, std::span<std::byte>) -> Result<void> { return {}; };
  EXPECT_OK(runner.run(first, 1, nothing));
  EXPECT_OK(runner.run(second, 1, nothing));
  ASSERT_GE(done.size(), 2u);
  EXPECT_LT(done.size(), 40u);
  EXPECT_TRUE(std::ranges::is_sorted(done));
  EXPECT_EQ(done[done.size() - 2], 40 * kMost);
  EXPECT_EQ(done.back(), 40 * kMost + 1);
}

}  // namespace
}  // namespace flatbed
