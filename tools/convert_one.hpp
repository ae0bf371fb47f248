// One conversion: open, select, plan, save; and what came of it.
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
  planned,  // --dry-run
  skipped,  // the output is valid and newer than the input
  failed,
};
[[nodiscard]] std::string_view name(Status status);

struct Outcome {
  Status status = Status::not_started;
  std::string found;          // "Lightning checkpoint, epoch 12: 640 tensors, 3.2 GiB"
  std::string chosen;         // "state_dict: 214 tensors, 1.1 GiB"; empty: everything
  std::vector<Pick> weights;  // where the weights alone would be, when more than those was kept
  std::vector<std::string> notes;
  std::uint64_t tensors = 0;
  std::uint64_t nbytes = 0;  // of the tensors
  SaveReport report;         // when converted
  std::optional<Error> error;
  double seconds = 0;
};

struct ConvertWatch {
  // Called before anything is written, with what was found, chosen and noted.
  std::function<void(const Outcome&)> announce;
  ProgressCallback progress;
};

// Does the job on the calling thread and, for the data, `threads` more. Never throws but for want
// of memory; every failure is in the outcome.
[[nodiscard]] Outcome convert_one(const ConvertJob& job, const ConvertOptions& options,
                                  bool skip_if_done, const ConvertWatch& watch);

}  // namespace flatbed::tool
