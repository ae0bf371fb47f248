// SetParts: what the files of a set are made of, for the writer and the comparison. Borrows the
// plan and the options. Thread-safe when const.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "flatbed/result.hpp"
#include "flatbed/save_set.hpp"
#include "save/planned_header.hpp"

namespace flatbed {

class SetParts {
 public:
  // Errors: those of save_set() for a plan that no set can hold.
  [[nodiscard]] static Result<SetParts> of(const SavePlan& plan, const SaveSetOptions& options);

  // The value of flatbed.series, which the first file will have.
  void set_series(std::string_view series) { texts_.series = series; }

  [[nodiscard]] std::span<const PlannedShard> shards() const noexcept { return shards_; }
  [[nodiscard]] std::uint64_t nbytes() const noexcept { return nbytes_; }  // of all tensors

  // The plan of one shard, whose tree and aliases are in header() alone.
  [[nodiscard]] SavePlan plan_of(std::size_t shard) const;
  // `plan` is plan_of(shard), and is borrowed.
  [[nodiscard]] Result<PlannedHeader> header(const SavePlan& plan, std::size_t shard) const;

  // The options for one of the files, whose bytes follow `bytes_before` others in the progress.
  [[nodiscard]] SaveOptions file_options(std::uint64_t bytes_before) const;

  // The text of the index. `contents`: the content digest of each shard, in order; none if the
  // shards are not sealed. Errors: limit_exceeded (longer than a reader takes).
  [[nodiscard]] Result<std::string> index(std::span<const std::string> contents) const;

 private:
  SetParts(const SavePlan& plan, const SaveSetOptions& options)
      : plan_(&plan), options_(&options) {}

  Result<void> check_index() const;

  const SavePlan* plan_;
  const SaveSetOptions* options_;
  std::vector<PlannedShard> shards_;
  PlannedHeader::Texts texts_;  // of the first shard
  std::uint64_t nbytes_ = 0;
};

}  // namespace flatbed
