// Transfer: where the bytes of a slice go, against a model that moves them one by one.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "load/load_plan.hpp"
#include "support/expect_error.hpp"
#include "support/load_model.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::fill;
using test::ModelTensor;
using test::TempDir;
using test::write_model;

class Random {
 public:
  explicit Random(std::uint32_t seed) : engine_(seed) {}
  std::uint64_t up_to(std::uint64_t most) {
    return std::uniform_int_distribution<std::uint64_t>(0, most)(engine_);
  }

 private:
  std::mt19937 engine_;
};

// One tensor, one slice of it and one destination, chosen at random; and for each byte of the
// tensor where it goes, or -1.
struct Case {
  TempDir dir;
  std::vector<ModelTensor> tensors{{"t", Dtype::u16, {}}};
  Slice slice;
  std::uint64_t row_pitch = 0;
  std::vector<std::int64_t> goes;
  std::uint64_t extent = 0;

  explicit Case(Random& random) {
    std::vector<std::uint64_t>& shape = tensors[0].shape;
    const std::uint64_t rank = 1 + random.up_to(3);
    for (std::uint64_t i = 0; i < rank; ++i) shape.push_back(1 + random.up_to(5));
    fill(tensors);
    slice.dim = random.up_to(rank - 1);
    slice.begin = random.up_to(shape[slice.dim] - 1);
    slice.end = slice.begin + 1 + random.up_to(shape[slice.dim] - slice.begin - 1);
    const bool cuts_rows = slice.dim == rank - 1;
    const std::uint64_t row = 2 * (cuts_rows ? slice.end - slice.begin : shape.back());
    if (random.up_to(2) != 0) row_pitch = row + 2 * random.up_to(3);
    place_bytes(row);
  }

  void place_bytes(std::uint64_t row) {
    const std::vector<std::uint64_t>& shape = tensors[0].shape;
    std::uint64_t inner = 2;
    for (std::size_t i = slice.dim + 1; i < shape.size(); ++i) inner *= shape[i];
    std::uint64_t at = 0;  // in the slice's contents
    for (std::uint64_t i = 0; i < tensors[0].bytes.size(); ++i) {
      const std::uint64_t index = i / inner % shape[slice.dim];
      goes.push_back(-1);
      if (index < slice.begin || index >= slice.end) continue;
      const std::uint64_t place = row_pitch == 0 ? at : at / row * row_pitch + at % row;
      goes.back() = static_cast<std::int64_t>(place);
      extent = place + 1;
      ++at;
    }
  }

  // Bytes [begin, end) by copy pieces, into memory of dots.
  std::string copied(const Transfer& transfer, std::uint64_t begin, std::uint64_t end) const {
    std::string out(extent, '.');
    const std::string from = tensors[0].bytes.substr(begin, end - begin);
    std::vector<CopyPiece> pieces;
    Transfer there = transfer;
    there.to = reinterpret_cast<std::byte*>(out.data());
    there.append_pieces(begin, end, reinterpret_cast<const std::byte*>(from.data()), pieces);
    for (const CopyPiece& piece : pieces) {
      for (std::uint64_t row = 0; row < piece.rows; ++row) {
        const auto* source = reinterpret_cast<const char*>(piece.from) + row * piece.from_pitch;
        auto* target = reinterpret_cast<char*>(piece.to) + row * piece.to_pitch;
        EXPECT_TRUE(source >= from.data() && source + piece.nbytes <= from.data() + from.size());
        EXPECT_TRUE(target >= out.data() && target + piece.nbytes <= out.data() + out.size());
        std::copy_n(source, piece.nbytes, target);
      }
    }
    return out;
  }
  // The same byte by byte.
  std::string wanted(std::uint64_t begin, std::uint64_t end) const {
    std::string out(extent, '.');
    for (std::uint64_t i = begin; i < end; ++i) {
      if (goes[i] >= 0) out[static_cast<std::size_t>(goes[i])] = tensors[0].bytes[i];
    }
    return out;
  }
  // Whether [begin, end) goes to one place as it is.
  bool stays_together(std::uint64_t begin, std::uint64_t end) const {
    for (std::uint64_t i = begin; i < end; ++i) {
      if (goes[i] < 0 || goes[i] != goes[begin] + static_cast<std::int64_t>(i - begin))
        return false;
    }
    return true;
  }
};

class LoadTransfer : public testing::TestWithParam<std::uint32_t> {};

TEST_P(LoadTransfer, TakesEachByteToItsPlace) {
  Random random(GetParam());
  for (int round = 0; round < 12; ++round) {
    const Case a(random);
    const Checkpoint checkpoint = write_model(a.dir / "a", a.tensors, false);
    alignas(8) std::byte memory[8192];
    LoadPlan plan;
    ASSERT_OK(
        plan.add(checkpoint, "t", {nullptr, memory, a.extent, a.row_pitch}, {.slice = a.slice}));
    if (a.extent > 1) {
      EXPECT_ERROR(LoadPlan().add(checkpoint, "t", {nullptr, memory, a.extent - 1, a.row_pitch},
                                  {.slice = a.slice}),
                   buffer_too_small);
    }
    const Transfer& transfer = LoadPlanAccess::state(plan).transfers.front();
    const std::uint64_t nbytes = a.tensors[0].bytes.size();
    const auto arrives =
        std::ranges::count_if(a.goes, [](std::int64_t place) { return place >= 0; });
    EXPECT_EQ(transfer.nbytes(), static_cast<std::uint64_t>(arrives));
    EXPECT_EQ(transfer.extent(), a.extent);
    for (int range = 0; range < 60; ++range) {
      const std::uint64_t begin = random.up_to(nbytes - 1);
      const std::uint64_t end = range == 0 ? nbytes : begin + 1 + random.up_to(nbytes - begin - 1);
      const std::uint64_t first = range == 0 ? 0 : begin;
      ASSERT_EQ(a.copied(transfer, first, end), a.wanted(first, end))
          << "seed " << GetParam() << " round " << round << " [" << first << "," << end << ")";
      const std::byte* place = transfer.place_together(first, end);
      // Rows of a pitch may touch by accident: then the copy is as good.
      if (place != nullptr) {
        ASSERT_TRUE(a.stays_together(first, end)) << round;
        ASSERT_EQ(place - memory, a.goes[first]) << round;
      }
      if (a.row_pitch == 0 && a.slice.dim == 0 && a.stays_together(first, end)) {
        ASSERT_NE(place, nullptr) << round;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, LoadTransfer, testing::Range(0U, 12U));

TEST(LoadTransferPieces, CopiesRunsOfAPackedDestinationAsOneBlock) {
  const TempDir dir;
  std::vector<ModelTensor> tensors{{"t", Dtype::u8, {8, 10}}};
  fill(tensors);
  const Checkpoint checkpoint = write_model(dir / "a", tensors);
  std::byte memory[256];
  LoadPlan plan;
  ASSERT_OK(plan.add(checkpoint, "t", {nullptr, memory, 256, 0}, {.slice = {1, 2, 6}}));
  ASSERT_OK(plan.add(checkpoint, "t", {nullptr, memory + 64, 192, 16}, {.slice = {1, 2, 6}}));
  const std::byte source[80] = {};
  for (const Transfer& transfer : LoadPlanAccess::state(plan).transfers) {
    std::vector<CopyPiece> pieces;
    transfer.append_pieces(0, 80, source, pieces);
    ASSERT_EQ(pieces.size(), 1u);
    EXPECT_EQ(pieces[0].from, source + 2);
    EXPECT_EQ(pieces[0].to, transfer.to);
    EXPECT_EQ(pieces[0].nbytes, 4u);
    EXPECT_EQ(pieces[0].rows, 8u);
    EXPECT_EQ(pieces[0].from_pitch, 10u);
    EXPECT_EQ(pieces[0].to_pitch, transfer.packed() ? 4u : 16u);
  }
}

}  // namespace
}  // namespace flatbed
