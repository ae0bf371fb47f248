// What slices of models as they are cost: bytes read for bytes wanted.
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/str_cat.hpp"
#include "flatbed/load.hpp"
#include "support/expect_error.hpp"
#include "support/load_model.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::fill;
using test::ModelTensor;
using test::TempDir;
using test::write_model;

constexpr std::uint64_t kParts = 8;

// One rank's rows of every tensor, or its columns. The destinations are addresses of nothing: none
// is written.
LoadPlanReport report_of(const Checkpoint& checkpoint, std::uint64_t rank, Verify verify,
                         std::size_t dim = 0) {
  LoadPlan plan;
  std::uintptr_t to = std::uintptr_t{1} << 40;
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    const Slice slice = shard_slice(tensor, dim, rank, kParts).value();
    EXPECT_OK(plan.add(checkpoint, tensor.name, {nullptr, reinterpret_cast<void*>(to), 1 << 30, 0},
                       {.slice = slice}));
    to += std::uintptr_t{1} << 30;
  }
  return plan.check({.verify = verify, .io = IoMode::buffered}).value();
}

double worst_cost(const Checkpoint& checkpoint, Verify verify, std::size_t dim = 0) {
  double worst = 0;
  for (std::uint64_t rank = 0; rank < kParts; ++rank) {
    const LoadPlanReport report = report_of(checkpoint, rank, verify, dim);
    worst = std::max(worst, static_cast<double>(report.bytes_to_read) /
                                static_cast<double>(report.bytes_wanted));
  }
  return worst;
}

// A layer of a model of a billion parameters: hidden size 2048, 5632 in between, 256 for keys.
TEST(LoadCost, ReadsLittleBesideAnEighthOfALayer) {
  const TempDir dir;
  std::vector<ModelTensor> tensors{
      {"q", Dtype::bf16, {2048, 2048}},    {"k", Dtype::bf16, {256, 2048}},
      {"v", Dtype::bf16, {256, 2048}},     {"o", Dtype::bf16, {2048, 2048}},
      {"gate", Dtype::bf16, {5632, 2048}}, {"up", Dtype::bf16, {5632, 2048}},
      {"down", Dtype::bf16, {2048, 5632}},
  };
  fill(tensors);
  const Checkpoint checkpoint = write_model(dir / "a", tensors);
  EXPECT_EQ(worst_cost(checkpoint, Verify::no), 1.0);
  EXPECT_LE(worst_cost(checkpoint, Verify::yes), 1.05);
}

// Columns of a layer of seven billion parameters in F32 (hidden size 4096, 11008 in between), of
// which a rank has 2 and 5.4 KiB of each row.
TEST(LoadCost, ReadsNoHolesBetweenColumns) {
  const TempDir dir;
  std::vector<ModelTensor> tensors{{"o", Dtype::f32, {256, 4096}},
                                   {"down", Dtype::f32, {256, 11'008}}};
  fill(tensors);
  const Checkpoint checkpoint = write_model(dir / "a", tensors);
  EXPECT_EQ(worst_cost(checkpoint, Verify::no, 1), 1.0);
  EXPECT_EQ(worst_cost(checkpoint, Verify::yes, 1), 8.0);  // every chunk is cut
}

// An eighth of an expert is a chunk and a half, which lies in two.
TEST(LoadCost, ReadsTwoChunksForAnEighthOfAnExpert) {
  const TempDir dir;
  std::vector<ModelTensor> tensors;
  for (int i = 0; i < 4; ++i) {
    tensors.push_back({str_cat("up", i), Dtype::bf16, {768, 2048}});
    tensors.push_back({str_cat("down", i), Dtype::bf16, {2048, 768}});
  }
  fill(tensors);
  const Checkpoint checkpoint = write_model(dir / "a", tensors);
  EXPECT_EQ(worst_cost(checkpoint, Verify::no), 1.0);
  EXPECT_LE(worst_cost(checkpoint, Verify::yes), 1.4);
}

}  // namespace
}  // namespace flatbed
