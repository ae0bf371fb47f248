// Series::State: what a Series owns, and what its parts share. The folder and the options never
// change; all else belongs to the calls that write, of which there is one at a time.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "flatbed/result.hpp"
#include "flatbed/series.hpp"
#include "io/folder.hpp"
#include "io/thread_pool.hpp"
#include "series/memory_copy.hpp"
#include "series/series_folder.hpp"

namespace flatbed {

struct Series::State {
  State(std::filesystem::path folder_path, const SeriesOptions& series_options)
      : folder(std::move(folder_path)), options(series_options) {}

  // Locks the folder, if it is not yet. Errors: series_locked, those of Folder.
  [[nodiscard]] Result<void> lock(bool make_folder);
  // Waits for save_async(). Its error, unless somebody had it.
  [[nodiscard]] Result<void> finish_pending();

  // series_save.cpp, prune.cpp: what Series does, once nothing else writes.
  [[nodiscard]] Result<SeriesSave> save(const SavePlan& plan, const SeriesStamp& stamp);
  [[nodiscard]] Result<PruneReport> prune(bool dry_run);
  [[nodiscard]] std::string sync_folder_name();

  const std::filesystem::path folder;
  const SeriesOptions options;

  std::optional<Folder> locked;
  std::uint64_t highest_sequence = 0;  // that was seen or given, also of what was abandoned
  bool folder_is_durable = false;      // its own name, in the folder above
  MemoryCopy memory;
  std::shared_ptr<PendingSave::State> pending;
  std::unique_ptr<ThreadCrew> crew;  // the last member: it uses the others until it is joined
};

// The metric and the mode that a series has with these options. Errors: series_mismatch.
struct ScoreKind {
  std::optional<std::string> metric;
  ScoreMode mode = ScoreMode::min;
};
[[nodiscard]] Result<ScoreKind> agree_on_scores(const SeriesOptions& options,
                                                const FoundSeries& found);

}  // namespace flatbed
