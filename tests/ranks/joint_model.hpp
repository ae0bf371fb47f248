// A model that ranks of one process load together: the file's bytes behind a source of each rank
// that counts, and what each rank wants of it.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "flatbed/load_together.hpp"
#include "support/bytes_source.hpp"
#include "support/expect_error.hpp"
#include "support/fake_collective.hpp"
#include "support/load_model.hpp"
#include "support/temp_dir.hpp"

namespace flatbed::test {

// The bytes of a file that several sources share. Each counts what is read from it; reads can fail
// or be slow.
class CountingSource final : public ByteSource {
 public:
  explicit CountingSource(std::shared_ptr<const std::string> bytes,
                          std::string label = "model.safetensors")
      : bytes_(std::move(bytes)), label_(std::move(label)) {}

  std::function<Result<void>(std::uint64_t offset)> before_read;  // set before the load
  mutable std::atomic<std::uint64_t> nbytes_read = 0;

  [[nodiscard]] std::string_view label() const noexcept override { return label_; }
  [[nodiscard]] std::uint64_t size() const noexcept override { return bytes_->size(); }
  Result<void> read_at(std::uint64_t offset, std::span<std::byte> out) const override {
    if (before_read) FLATBED_TRY(before_read(offset));
    nbytes_read += out.size();
    std::memcpy(out.data(), bytes_->data() + offset, out.size());
    return {};
  }

 private:
  std::shared_ptr<const std::string> bytes_;
  std::string label_;
};

inline std::shared_ptr<const std::string> file_bytes(const std::vector<ModelTensor>& tensors,
                                                     bool seal) {
  const TempDir dir;
  write_model(dir / "a", tensors, seal);
  return std::make_shared<const std::string>(read_file(dir / "a"));
}

// slice_of() of the load tests, row by row.
inline std::string part_bytes(const ModelTensor& tensor, const Slice& slice) {
  if (tensor.shape.empty()) return tensor.bytes;
  std::size_t inner = bits(tensor.dtype) / 8;
  for (std::size_t i = slice.dim + 1; i < tensor.shape.size(); ++i)
    inner *= static_cast<std::size_t>(tensor.shape[i]);
  const std::size_t pitch = inner * static_cast<std::size_t>(tensor.shape[slice.dim]);
  const std::uint64_t end = std::min(slice.end, tensor.shape[slice.dim]);
  std::string out;
  for (std::size_t at = 0; at < tensor.bytes.size(); at += pitch)
    out += tensor.bytes.substr(at + inner * slice.begin, inner * (end - slice.begin));
  return out;
}

// What one rank loads, and what should arrive.
class RankModel {
 public:
  explicit RankModel(std::shared_ptr<const std::string> bytes,
                     std::string label = "model.safetensors")
      : source_(std::make_shared<CountingSource>(std::move(bytes), std::move(label))),
        checkpoint_(Checkpoint::open(source_).value()) {
    source_->nbytes_read = 0;
  }

  void add(const ModelTensor& tensor, const Slice& slice, Device* device = nullptr,
           Group group = {}) {
    std::string bytes = part_bytes(tensor, slice);
    wanted_.emplace_back(Target(bytes.size()), std::move(bytes));
    const Result<void> added =
        plan_.add(checkpoint_, tensor.name, wanted_.back().first.destination(device),
                  {.slice = slice, .group = group});
    ASSERT_OK(added);
    nbytes_wanted_ += wanted_.back().second.size();
  }

  void expect_all_arrived() {
    for (auto& [target, bytes] : wanted_) {
      EXPECT_TRUE(target.bytes() == bytes) << "of " << bytes.size() << " bytes";
      EXPECT_TRUE(target.border_is_whole());
    }
  }

  [[nodiscard]] const LoadPlan& plan() const { return plan_; }
  [[nodiscard]] CountingSource& source() { return *source_; }
  [[nodiscard]] const Checkpoint& checkpoint() const { return checkpoint_; }
  [[nodiscard]] std::uint64_t nbytes_wanted() const { return nbytes_wanted_; }

 private:
  std::shared_ptr<CountingSource> source_;
  Checkpoint checkpoint_;
  LoadPlan plan_;
  std::deque<std::pair<Target, std::string>> wanted_;
  std::uint64_t nbytes_wanted_ = 0;
};

// Part `rank` of `size` of a dimension, as shard_slice() cuts.
inline Slice part_of(const ModelTensor& tensor, std::size_t dim, std::uint64_t rank,
                     std::uint64_t size) {
  if (tensor.shape.empty()) return {};
  const std::uint64_t n = tensor.shape[dim];
  const std::uint64_t each = n / size;
  const std::uint64_t more = n % size;
  const auto border = [&](std::uint64_t part) { return each * part + std::min(part, more); };
  return {dim, border(rank), border(rank + 1)};
}

enum class Cut { rows, columns, whole };

inline Slice slice_for(const ModelTensor& tensor, Cut cut, std::uint32_t rank, std::uint32_t size) {
  if (cut == Cut::whole || tensor.shape.empty()) return {};
  const std::size_t dim = cut == Cut::rows ? 0 : tensor.shape.size() - 1;
  return part_of(tensor, dim, rank, size);
}

// load_together() on every rank; the results by rank.
inline std::vector<std::optional<Result<JointReport>>> load_on(
    FakeRanks& ranks, std::deque<RankModel>& models,
    const std::function<JointOptions(std::uint32_t)>& options) {
  std::vector<std::optional<Result<JointReport>>> results(models.size());
  ranks.run([&](std::uint32_t rank) {
    results[rank].emplace(load_together(models[rank].plan(), ranks[rank], options(rank)));
  });
  return results;
}

}  // namespace flatbed::test
