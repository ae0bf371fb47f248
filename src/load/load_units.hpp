// Units: the pieces in which a job's bytes are checked and brought to their places. A part is one
// unit, or one chunk of it where chunks are checked, or one run of it where the job is sparse.
//
// A sparse job does not read everything between its begin and its end, only what its runs need, and
// holes between them that are small:
//
//   transfer 1   |rrr|.......................|rrr|.......................|rrr|
//   transfer 2   ....|rrr|.......................|rrr|........................
//   reads        |---0---|...................|---1---|...................|-2-|
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "io/page_cache.hpp"
#include "load/load_schedule.hpp"

namespace flatbed {

// Offsets count as in the job.
struct Unit {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  const Transfer* transfer = nullptr;
  bool checked = false;
  bool opens_part = false;  // no unit of its part comes before it
  [[nodiscard]] std::uint64_t nbytes() const noexcept { return end - begin; }
};

// The units of one job and its reads, both in the order of the file. Reused from job to job, for
// the sake of its memory. Not thread-safe.
class Units {
 public:
  Units(const LoadPlanState& plan, const Schedule& schedule, bool verify)
      : plan_(plan), schedule_(schedule), verify_(verify) {}

  // Begins with the first unit of the job, which must outlive its units.
  void begin(const Job& job);

  // The next unit, without taking it. Where the job is not sparse, those of one part follow each
  // other, and chunks shared by two parts occur twice.
  [[nodiscard]] std::optional<Unit> peek() const;
  // Moves past the unit that peek() returned.
  void take(const Unit& unit);

  // Where the next unit is, to come back to it in the same job.
  struct Place {
    std::size_t part = 0;
    std::uint64_t done = 0;
    std::size_t run = 0;
  };
  [[nodiscard]] Place place() const noexcept { return {part_, done_, run_}; }
  void go_to(const Place& place) noexcept {
    part_ = place.part;
    done_ = place.done;
    run_ = place.run;
  }

  // What is read: of a job that is not sparse, everything.
  [[nodiscard]] std::span<const FileRange> reads() const noexcept { return reads_; }
  [[nodiscard]] std::uint64_t read_nbytes() const noexcept;
  // Whether two runs of a sparse job share a byte.
  [[nodiscard]] bool overlapping() const noexcept { return overlapping_; }

 private:
  void list_runs(const Job& job);
  void list_reads(std::uint64_t max_hole_nbytes);

  const LoadPlanState& plan_;
  const Schedule& schedule_;
  bool verify_;
  bool sparse_ = false;
  bool overlapping_ = false;
  std::span<const Part> parts_;
  std::size_t part_ = 0;    // of the next unit
  std::uint64_t done_ = 0;  // bytes of that part
  std::vector<Unit> runs_;  // of a sparse job
  std::size_t run_ = 0;     // the next one
  std::vector<FileRange> reads_;
};

}  // namespace flatbed
