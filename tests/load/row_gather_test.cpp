// RowGather: which rows are moved together, and that every byte still arrives where it did.
#include "load/row_gather.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

namespace flatbed {
namespace {

using Pieces = std::vector<std::vector<CopyPiece>>;

// A slot with a value of its own for (nearly) every byte, and the memory of all devices.
struct Scene {
  explicit Scene(std::size_t slot_nbytes) : slot(slot_nbytes), memory(4 * slot_nbytes) {
    std::mt19937 random(7);
    for (std::byte& byte : slot) byte = static_cast<std::byte>(random());
  }
  [[nodiscard]] CopyPiece rows(std::uint64_t from, std::uint64_t to, std::uint64_t nbytes,
                               std::uint64_t count = 1, std::uint64_t pitch = 0) {
    return {&slot[from], &memory[to], nbytes, count, pitch, nbytes};
  }
  [[nodiscard]] std::vector<std::byte> copied(const Pieces& pieces) {
    std::vector<std::byte> out(memory.size());
    for (const std::vector<CopyPiece>& list : pieces) {
      for (const CopyPiece& piece : list) {
        for (std::uint64_t row = 0; row < piece.rows; ++row) {
          std::memcpy(
              &out[static_cast<std::size_t>(piece.to - memory.data()) + row * piece.to_pitch],
              piece.from + row * piece.from_pitch, piece.nbytes);
        }
      }
    }
    return out;
  }
  // The numbers of pieces and of rows for each device after gathering.
  struct Counts {
    std::size_t pieces = 0;
    std::uint64_t rows = 0;
    bool operator==(const Counts&) const = default;
  };
  std::vector<Counts> gather(Pieces pieces) {
    const std::vector<std::byte> expected = copied(pieces);
    gather_.gather(slot.data(), pieces);
    EXPECT_TRUE(copied(pieces) == expected);
    std::vector<Counts> out;
    for (const std::vector<CopyPiece>& list : pieces) {
      Counts& counts = out.emplace_back(Counts{list.size(), 0});
      for (const CopyPiece& piece : list) counts.rows += piece.rows;
    }
    return out;
  }

  std::vector<std::byte> slot;
  std::vector<std::byte> memory;
  RowGather gather_;
};
using Counts = std::vector<Scene::Counts>;

TEST(RowGather, MakesOneBlockOfNarrowRows) {
  Scene scene(1 << 20);
  EXPECT_EQ(scene.gather({{}, {scene.rows(512, 0, 1024, 128, 8192)}}), (Counts{{0, 0}, {1, 1}}));
}

// A job begins and ends within a row, and rows of the next tensor follow in the same memory.
TEST(RowGather, TakesThePartsOfRowsBeforeAndAfter) {
  Scene scene(1 << 16);
  EXPECT_EQ(scene.gather({{},
                          {scene.rows(0, 100, 24), scene.rows(1000, 124, 100, 20, 1000),
                           scene.rows(21'000, 2124, 7), scene.rows(30'000, 2131, 50, 4, 64)}}),
            (Counts{{0, 0}, {1, 1}}));
}

TEST(RowGather, LeavesTheRest) {
  Scene scene(1 << 20);
  CopyPiece apart = scene.rows(0, 0, 1024, 16, 8192);
  apart.to_pitch = 2048;
  EXPECT_EQ(scene.gather({{}, {apart}}), (Counts{{0, 0}, {1, 16}}));
  const CopyPiece wide = scene.rows(0, 0, kNarrowNbytes, 16, 8192);
  EXPECT_EQ(scene.gather({{}, {wide}}), (Counts{{0, 0}, {1, 16}}));
  const CopyPiece host = scene.rows(0, 0, 1024, 16, 8192);
  EXPECT_EQ(scene.gather({{host}, {}}), (Counts{{1, 16}, {0, 0}}));
  // Small tensors whose places are apart.
  EXPECT_EQ(scene.gather({{}, {scene.rows(0, 0, 100), scene.rows(128, 256, 100)}}),
            (Counts{{0, 0}, {2, 2}}));
  EXPECT_EQ(scene.gather({}), Counts{});
}

TEST(RowGather, JoinsSmallTensorsThatArriveSideBySide) {
  Scene scene(1 << 12);
  EXPECT_EQ(scene.gather({{}, {scene.rows(0, 0, 100), scene.rows(128, 100, 60)}}),
            (Counts{{0, 0}, {1, 1}}));
}

// All ranks of a matrix, on devices of their own and two on one.
TEST(RowGather, UnpicksRowsOfSeveralSlices) {
  Scene scene(1 << 16);
  Pieces pieces(8);
  for (std::uint64_t rank = 0; rank < 8; ++rank)
    pieces[std::min<std::uint64_t>(rank + 1, 7)].push_back(
        scene.rows(rank * 1024, rank * 8192, 1024, 8, 8192));
  EXPECT_EQ(scene.gather(pieces),
            (Counts{{0, 0}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, {2, 2}}));
}

TEST(RowGather, MovesNothingThatIsCopiedAsWell) {
  Scene scene(1 << 16);
  const CopyPiece narrow = scene.rows(0, 0, 512, 8, 8192);
  const CopyPiece wide = scene.rows(600, 1 << 16, 4096, 8, 8192);
  EXPECT_EQ(scene.gather({{}, {narrow}, {wide}}), (Counts{{0, 0}, {1, 8}, {1, 8}}));
  const CopyPiece host = scene.rows(5000, 1 << 16, 100);
  EXPECT_EQ(scene.gather({{host}, {narrow}}), (Counts{{1, 1}, {1, 8}}));
  // The whole matrix twice, as columns: more than there is room for.
  const CopyPiece all = scene.rows(0, 0, 2048, 8, 2048);
  const CopyPiece again = scene.rows(0, 1 << 16, 2048, 8, 2048);
  EXPECT_EQ(scene.gather({{}, {all}, {again}}), (Counts{{0, 0}, {1, 8}, {1, 8}}));
  // The same columns twice have room.
  const CopyPiece copy = scene.rows(0, 1 << 16, 512, 8, 8192);
  EXPECT_EQ(scene.gather({{}, {narrow, copy}}), (Counts{{0, 0}, {2, 2}}));
}

class RowGatherRandom : public testing::TestWithParam<unsigned> {};

TEST_P(RowGatherRandom, KeepsEveryByte) {
  std::mt19937 random(GetParam());
  const auto below = [&random](std::uint64_t end) { return random() % end; };
  Scene scene(1 << 15);
  Pieces pieces(4);
  std::uint64_t to = 0;
  for (std::uint64_t at = 0; at < 24'000;) {
    const std::uint64_t pitch = 1 + below(6000);
    const std::uint64_t rows = 1 + below(std::min<std::uint64_t>(6, (32'000 - at) / pitch));
    for (std::uint64_t column = 0; column < pitch;) {
      const std::uint64_t nbytes = 1 + below(pitch - column);
      CopyPiece piece = scene.rows(at + column, to, nbytes, rows, pitch);
      if (below(8) == 0) piece.to_pitch += below(9);
      pieces[below(4)].push_back(piece);
      to += rows * piece.to_pitch + (below(2) == 0 ? 0 : below(30));
      column += nbytes + (below(3) == 0 ? 0 : below(300));
    }
    at += rows * pitch;
  }
  scene.gather(std::move(pieces));
}

INSTANTIATE_TEST_SUITE_P(Seeds, RowGatherRandom, testing::Range(0U, 40U));

}  // namespace
}  // namespace flatbed
