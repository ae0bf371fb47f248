// find_series(): the checkpoints of a series that a folder holds, as the first bytes of their files
// state them (spec Q3 to Q5). Reads only; thread-safe.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "flatbed/result.hpp"
#include "flatbed/series.hpp"
#include "series/statement.hpp"

namespace flatbed {

// The sub-folder with what was given up by roll_back(). It is not part of the series.
inline constexpr std::string_view kAbandonedName = "abandoned";

struct FoundEntry {
  SeriesEntry entry;
  Statement statement;
  std::string seal;                           // the value of `flatbed`
  bool same_metric = true;                    // metric and mode are those of the series
  std::vector<std::filesystem::path> copies;  // other names of the same checkpoint
};

struct FoundSeries {
  std::vector<FoundEntry> entries;  // by sequence number, then by name
  std::optional<std::string> metric;
  ScoreMode mode = ScoreMode::min;
  std::vector<std::string> notes;
  // Of what the system could not read, and what may be readable again later.
  std::vector<Error> unread;

  // No checkpoint in the folder has a higher number, if those that could not be read are the last.
  [[nodiscard]] std::uint64_t highest_sequence() const noexcept {
    return (entries.empty() ? 0 : entries.back().entry.sequence) + unread.size();
  }
};

// Errors: file_not_found, not_a_regular_file (not a folder), those of the system.
[[nodiscard]] Result<FoundSeries> find_series(const std::filesystem::path& folder);

// Whether scores of `mode` are better one than the other. Neither is NaN.
[[nodiscard]] inline bool is_better(ScoreMode mode, double one, double other) noexcept {
  return mode == ScoreMode::min ? one < other : one > other;
}

}  // namespace flatbed
