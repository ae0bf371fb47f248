// choose_latest(), choose_best(), choose_step(): the checkpoint of a series that is meant, among
// those that open. Reads only; thread-safe.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "flatbed/result.hpp"
#include "flatbed/series.hpp"
#include "series/series_folder.hpp"

namespace flatbed {

// Among those that were found. What is passed over is named in the entry's notes. Errors:
// step_not_found; resource_exhausted, where it is not the checkpoint that cannot be opened;
// choose_step(): that of the last one with this step, if none opens.
[[nodiscard]] Result<SeriesEntry> choose_latest(const FoundSeries& found);
[[nodiscard]] Result<SeriesEntry> choose_best(const FoundSeries& found);
[[nodiscard]] Result<SeriesEntry> choose_step(const FoundSeries& found, std::uint64_t step);

// Those with a score that counts, the best first.
[[nodiscard]] std::vector<const FoundEntry*> order_by_score(const FoundSeries& found);

// Whether open_entry() opens it. False adds the reason to `notes`. Errors: resource_exhausted.
[[nodiscard]] Result<bool> is_whole(const SeriesEntry& entry, std::vector<std::string>& notes);

}  // namespace flatbed
