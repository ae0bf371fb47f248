// RankBorders: where to end a job of several ranks, because other ranks want the bytes that follow.
// One rank reads a job and sends what others want of it, so that a job has less to send if it ends
// where the ranks change:
//
//   rank 0 wants   |--------------|
//   rank 1 wants                  |--------------|
//   jobs           |------ 0 -----|------ 1 -----|       nothing is sent
//
// A border is where a want begins or ends, or a run that is longer than a chunk. Between two
// borders the ranks' shares stay as they are; those of columns do, whose runs are short. Where
// chunks are checked, a border lies between two of them.
//
// Reused from job to job, for the sake of its memory. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "load/load_plan.hpp"

namespace flatbed {

class RankBorders {
 public:
  // Of a file.
  struct Range {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
  };
  struct Want {
    const Transfer* transfer = nullptr;
    std::uint32_t rank = 0;
    bool checked = false;
    Range range;  // in whole chunks if it is checked
  };

  // Where a job from `job.begin` on should end, at `job.end` at the latest. `wants` are in the
  // order of their begin.
  [[nodiscard]] std::uint64_t find(Range job, std::span<const Want> wants);

 private:
  // What a rank wants between two borders.
  struct Share {
    std::size_t interval = 0;  // from this border to the next
    std::uint32_t rank = 0;
    std::uint64_t nbytes = 0;
  };
  // The bytes that each rank wants, and the most that any does.
  struct Sum {
    std::vector<std::uint64_t> of_rank;
    std::uint64_t most = 0;
    void add(std::span<const Share> shares);
  };
  void list_borders(Range job, std::span<const Want> wants);
  void add_runs(Range job, const Want& want);
  void list_shares(std::span<const Want> wants);
  [[nodiscard]] std::span<const Share> shares_of(std::size_t interval) const;
  [[nodiscard]] std::optional<std::uint64_t> first_change();

  std::vector<std::uint64_t> borders_;  // of the job, with its begin and its end
  std::vector<Share> shares_;           // by interval and rank
  std::vector<std::size_t> first_;      // share of each interval; their number
  std::uint32_t ranks_ = 0;
};

}  // namespace flatbed
