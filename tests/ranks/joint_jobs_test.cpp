// Who reads what, counted: each byte is read by one rank, and little is sent that another reader
// would not have had to send.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "ranks/joint_model.hpp"
#include "ranks/joint_plans.hpp"

namespace flatbed::test {
namespace {

constexpr std::uint32_t kMostRanks = 8;

// Shapes that 2 to 8 ranks can divide evenly, so that all of them want the same number of bytes,
// which are zeros.
std::vector<ModelTensor> layers() {
  std::vector<ModelTensor> tensors;
  for (const char* layer : {"0.", "1."}) {
    tensors.push_back({layer + std::string("norm"), Dtype::f32, {1680}});
    tensors.push_back({layer + std::string("q"), Dtype::bf16, {1680, 840}});
    tensors.push_back({layer + std::string("o"), Dtype::bf16, {840, 1680}});
    tensors.push_back({layer + std::string("up"), Dtype::bf16, {3360, 840}});
    tensors.push_back({layer + std::string("down"), Dtype::bf16, {840, 3360}});
  }
  for (ModelTensor& tensor : tensors) {
    std::uint64_t nbytes = bits(tensor.dtype) / 8;
    for (const std::uint64_t size : tensor.shape) nbytes *= size;
    tensor.bytes.resize(nbytes);
  }
  return tensors;
}

// What others want of every chunk of a tensor, if the rank reads it that wants most of it.
std::uint64_t wanted_by_others(const ModelTensor& tensor, const std::vector<Slice>& slices) {
  std::vector<std::vector<std::uint64_t>> wanted(tensor.bytes.size() / kChunk + 1,
                                                 std::vector<std::uint64_t>(slices.size()));
  for (std::size_t rank = 0; rank < slices.size(); ++rank) {
    const Slice& slice = slices[rank];
    std::uint64_t inner = bits(tensor.dtype) / 8;
    for (std::size_t i = slice.dim + 1; i < tensor.shape.size(); ++i) inner *= tensor.shape[i];
    const std::uint64_t dim = tensor.shape[slice.dim];
    for (std::uint64_t row = 0; row < tensor.bytes.size(); row += inner * dim) {
      const std::uint64_t end = row + inner * std::min(slice.end, dim);
      for (std::uint64_t at = row + inner * slice.begin; at < end;) {
        const std::uint64_t border = std::min(end, (at / kChunk + 1) * kChunk);
        wanted[at / kChunk][rank] += border - at;
        at = border;
      }
    }
  }
  std::uint64_t nbytes = 0;
  for (const std::vector<std::uint64_t>& chunk : wanted)
    nbytes += std::accumulate(chunk.begin(), chunk.end(), std::uint64_t{0}) -
              *std::ranges::max_element(chunk);
  return nbytes;
}

struct Counted {
  std::uint64_t read = 0;
  std::uint64_t most_read = 0;  // by one rank
  std::uint64_t sent = 0;
};

class JointJobsOfLayers : public testing::TestWithParam<Cut> {
 protected:
  void open(bool seal) {
    source_ = std::make_shared<CountingSource>(file_bytes(tensors_, seal));
    checkpoint_.emplace(Checkpoint::open(source_).value());
  }
  [[nodiscard]] Counted count(std::uint32_t size) const {
    const auto slice = [&](const TensorInfo& info, std::uint32_t rank) {
      const auto found = std::ranges::find(tensors_, info.name, &ModelTensor::name);
      return slice_for(*found, GetParam(), rank, size);
    };
    JointPlans plans(*checkpoint_, {.ranks = size, .slot_nbytes = 512 << 10, .slice = slice});
    Counted counted;
    for (std::uint32_t rank = 0; rank < size; ++rank) {
      const JointJobs jobs = plans.jobs_of(rank);
      for (const ExpectedMessage& message : jobs.expected) counted.sent += message.nbytes;
      std::uint64_t read = 0;
      for (const Job& job : jobs.schedule.jobs) read += job.read_nbytes;
      counted.read += read;
      counted.most_read = std::max(counted.most_read, read);
    }
    return counted;
  }
  [[nodiscard]] std::uint64_t wanted_by_others(std::uint32_t size) const {
    std::uint64_t nbytes = 0;
    for (const ModelTensor& tensor : tensors_) {
      std::vector<Slice> slices;
      for (std::uint32_t rank = 0; rank < size; ++rank)
        slices.push_back(slice_for(tensor, GetParam(), rank, size));
      nbytes += test::wanted_by_others(tensor, slices);
    }
    return nbytes;
  }
  [[nodiscard]] std::uint64_t nbytes() const {
    return std::accumulate(
        tensors_.begin(), tensors_.end(), std::uint64_t{0},
        [](std::uint64_t sum, const ModelTensor& tensor) { return sum + tensor.bytes.size(); });
  }

 private:
  std::vector<ModelTensor> tensors_ = layers();
  std::shared_ptr<CountingSource> source_;
  std::optional<Checkpoint> checkpoint_;
};

std::string cut_name(const testing::TestParamInfo<Cut>& info) {
  return info.param == Cut::rows ? "rows" : info.param == Cut::columns ? "columns" : "whole";
}

double ratio(std::uint64_t a, std::uint64_t b) {
  return static_cast<double>(a) / static_cast<double>(b);
}

TEST_P(JointJobsOfLayers, ReadOnceAndSendWhatOthersWant) {
  for (const bool seal : {false, true}) {
    open(seal);
    for (std::uint32_t size = 2; size <= kMostRanks; ++size) {
      SCOPED_TRACE(std::to_string(size) + (seal ? " ranks, sealed" : " ranks"));
      const Counted counted = count(size);
      EXPECT_LE(ratio(counted.read, nbytes()), 1.02);
      EXPECT_LE(ratio(counted.sent, wanted_by_others(size)), 1.02);
      EXPECT_LE(ratio(counted.most_read, nbytes() / size), 1.2);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cuts, JointJobsOfLayers,
                         testing::Values(Cut::rows, Cut::columns, Cut::whole), cut_name);

class JointJobsOfRows : public JointJobsOfLayers {};

// Where nothing is checked, a job may end anywhere.
TEST_P(JointJobsOfRows, SendNextToNothingIfTheFileIsNotSealed) {
  open(false);
  for (std::uint32_t size = 2; size <= kMostRanks; ++size) {
    SCOPED_TRACE(std::to_string(size) + " ranks");
    EXPECT_LE(ratio(count(size).sent, nbytes()), 0.001);
  }
}

INSTANTIATE_TEST_SUITE_P(Cuts, JointJobsOfRows, testing::Values(Cut::rows), cut_name);

// Such as the columns of experts that lie in one tensor.
TEST(JointJobsOfLongRuns, SendNothing) {
  const std::vector<ModelTensor> tensors{
      {"experts", Dtype::u8, {4, 6, kChunk}, std::string(24 * kChunk, 'e')}};
  for (const bool seal : {false, true}) {
    const auto source = std::make_shared<CountingSource>(file_bytes(tensors, seal));
    const auto slice = [](const TensorInfo& tensor, std::uint32_t rank) {
      return shard_slice(tensor, 1, rank, 3).value();
    };
    JointPlans plans(Checkpoint::open(source).value(), {.ranks = 3, .slice = slice});
    for (std::uint32_t rank = 0; rank < 3; ++rank) {
      const JointJobs jobs = plans.jobs_of(rank);
      EXPECT_TRUE(jobs.expected.empty());
      EXPECT_EQ(jobs.bytes_to_read[rank], 8 * kChunk);
    }
  }
}

}  // namespace
}  // namespace flatbed::test
