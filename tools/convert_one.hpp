// One conversion: opens, selects, plans and saves, and records the outcome.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "commands.hpp"
#include "convert_jobs.hpp"
#include "flatbed/save.hpp"
#include "picks.hpp"

namespace flatbed::tool {

enum class Status : std::uint8_t {
  not_started,  // interrupted before its turn
  converted,
  planned,     // --dry-run
  up_to_date,  // the output already holds what would be written
  failed,
};
[[nodiscard]] std::string_view name(Status status);

// One file of an output that is a sharded set.
struct ShardOutcome {
  std::filesystem::path path;
  std::uint64_t tensors = 0;
  std::uint64_t nbytes = 0;       // of its tensors
  std::uint64_t file_nbytes = 0;  // 0 unless it was written now, as is `content`
  std::string content;
};

struct Outcome {
  Status status = Status::not_started;
  std::string found;          // "Lightning checkpoint, epoch 12: 640 tensors, 3.2 GiB"
  std::string chosen;         // "state_dict: 214 tensors, 1.1 GiB"; empty: everything
  std::vector<Pick> weights;  // parts that hold only weights, when more than those was kept
  std::vector<std::string> notes;
  std::vector<std::string> warnings;  // what may be wrong with the output; shown under --quiet, too
  std::uint64_t tensors = 0;
  std::uint64_t nbytes = 0;          // of all tensors
  std::uint64_t cast = 0;            // tensors that --dtype casts
  std::vector<ShardOutcome> shards;  // empty if the output is a single file
  SaveReport report;                 // set after a conversion
  std::optional<Error> error;
  bool refused = false;  // failed because the output exists and differs
  double seconds = 0;
};

struct ConvertWatch {
  // Called before anything is written, with the parts of the outcome known by then.
  std::function<void(const Outcome&)> announce;
  ProgressCallback progress;
};

// Runs the job on the calling thread and `threads` more for the data. Throws only if memory runs
// out; every other failure is in the outcome.
[[nodiscard]] Outcome convert_one(const ConvertJob& job, const ConvertOptions& options,
                                  const ConvertWatch& watch);

}  // namespace flatbed::tool
