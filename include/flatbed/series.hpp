// Series: the checkpoints of one training run, in a folder: save during training, then find the
// latest or the best one again.
//
//   SeriesOptions run{.metric = "val_loss", .mode = ScoreMode::min, .keep_last = 3};
//   FLATBED_ASSIGN(Series series, Series::open("run", run));
//   FLATBED_ASSIGN(const SavePlan state, make_plan(checkpoint));
//   FLATBED_ASSIGN(const SeriesSave saved, series.save(state, {.step = 1000, .score = 0.25}));
//   FLATBED_ASSIGN(const SeriesEntry best, series.best());
//   FLATBED_ASSIGN(const Checkpoint loaded, Series::open_entry(best));
//
// Every checkpoint states its sequence number, step and score in its own sealed header (spec Q1).
// There is no other record: the series is what the headers in the folder say, in any order of file
// names and whatever the clock said. So nothing can name a checkpoint that is not there, a file
// that is half written is never seen, and one that was damaged is passed over and named in a note.
// Only entries directly in the folder count: files that end in ".safetensors", and folders that
// hold a set. Links and names that begin with a dot do not count.
//
// One process writes: the first call that writes locks the folder (flock) until the Series is
// destroyed, and is series_locked where another one has it. Readers take no lock.
//
// Owns the lock and the memory of save_async(). Move-only. Const members may be called from any
// thread, also while a checkpoint is being written; the others from one thread at a time.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "flatbed/checkpoint.hpp"
#include "flatbed/export.hpp"
#include "flatbed/result.hpp"
#include "flatbed/save.hpp"
#include "flatbed/save_plan.hpp"
#include "flatbed/verify.hpp"

namespace flatbed {

// Whether the lowest or the highest score is the best.
enum class ScoreMode : std::uint8_t { min, max };
[[nodiscard]] FLATBED_EXPORT std::string_view name(ScoreMode mode) noexcept;  // "min", "max"

struct SeriesOptions {
  // What the scores are, and which is best. nullopt: what the series has; a new series then has no
  // scores, and `min`. The first save with a metric fixes both. The name has at most 256 bytes.
  std::optional<std::string> metric = {};
  std::optional<ScoreMode> mode = {};

  // What prune(), which every save calls, keeps: the latest checkpoint and the union of these. The
  // default of keep_best means that limiting the number of the last ones never loses the best.
  std::uint64_t keep_last = 0;   // this many; 0 together with keep_every = 0: everything is kept
  std::uint64_t keep_best = 1;   // this many, if there are scores
  std::uint64_t keep_every = 0;  // those whose step is a multiple of this; 0: none for this reason

  // Save each checkpoint as a sharded set in a folder of its own. nullopt: as a single file.
  std::optional<std::uint64_t> max_shard_nbytes = {};

  // For every file. `seal` and `replace` have no effect: checkpoints of a series are sealed and
  // never replaced; `dry_run` is invalid. save_async() calls `progress` on its own thread.
  SaveOptions file = {};
};

// What a save states beside the tensors. Steps rise within a series.
struct SeriesStamp {
  std::uint64_t step = 0;            // below 2^53
  std::optional<double> score = {};  // needs a metric; NaN is never best
};

// A checkpoint as its header states it. The header's digests were not checked: see open_entry().
struct SeriesEntry {
  std::filesystem::path path;  // for Checkpoint::open(): a file, or the folder of a set
  std::uint64_t sequence = 0;  // orders the series
  std::uint64_t step = 0;
  std::optional<double> score = {};
  std::optional<std::int64_t> epoch = {};  // the integer `epoch` of the saved dict
  std::string parent;                      // the `content` of the one before it; empty: the first
  std::string content;                     // the seal's content digest; of a set, its first file's
  std::uint64_t nbytes = 0;                // of the file, or of all files of the set
  std::int64_t saved_at = 0;  // by the clock at that time, in milliseconds since 1970, UTC
  bool is_set = false;
  // Of latest(), best() and at(): the ones that came first and were passed over, and why; one
  // sentence each.
  std::vector<std::string> notes = {};
};

struct SeriesListing {
  std::vector<SeriesEntry> entries;   // ascending by sequence number, then by name
  std::optional<std::string> metric;  // of the first entry that states one
  ScoreMode mode = ScoreMode::min;
  std::vector<std::string> notes;  // what was skipped or is odd, and why; one sentence each
};

struct SeriesSave {
  SeriesEntry entry;
  SaveReport files;                 // of save(), or save_set()'s of all files
  std::vector<SeriesEntry> pruned;  // removed afterwards
  std::vector<std::string> notes;   // why something could not be pruned; one sentence each
  std::uint64_t file_count = 1;     // of the checkpoint; of a set, its shards
};

struct PruneReport {
  std::vector<SeriesEntry> removed;  // or would be, in a dry run; ascending
  std::vector<SeriesEntry> kept;
  std::vector<std::string> notes;  // what could not be read or removed; one sentence each
};

struct RollBackReport {
  SeriesEntry latest;              // the one that the series goes on from
  std::vector<SeriesEntry> moved;  // with their new paths; descending
};

// One checkpoint of verify(): its report, or why it does not open.
struct VerifiedEntry {
  SeriesEntry entry;
  Result<VerifyReport> report;
  [[nodiscard]] bool ok() const { return report && report->damaged.empty(); }
};

struct SeriesVerify {
  std::vector<VerifiedEntry> entries;            // as in the listing
  std::vector<std::string> notes;                // those of the listing
  [[nodiscard]] FLATBED_EXPORT bool ok() const;  // every entry is, and nothing was skipped
};

// A save that may still be running. A copyable handle, which may outlive the Series.
class FLATBED_EXPORT PendingSave {
 public:
  [[nodiscard]] bool ready() const;
  // Blocks until it is done. May be called again, from any thread.
  [[nodiscard]] Result<SeriesSave> wait() const;

 private:
  friend class Series;
  struct FLATBED_HIDDEN State;
  explicit PendingSave(std::shared_ptr<State> state) : state_(std::move(state)) {}
  std::shared_ptr<State> state_;
};

class FLATBED_EXPORT Series {
 public:
  // Makes and locks nothing. The folder may be absent until the first save, which makes it; the
  // folder above must exist. Errors: invalid_argument, series_mismatch (the folder's series has
  // another metric or mode), not_a_regular_file (a file is in the folder's place), those of the
  // system.
  [[nodiscard]] static Result<Series> open(const std::filesystem::path& folder,
                                           const SeriesOptions& options = {});
  Series(Series&& other) noexcept;
  Series& operator=(Series&& other) noexcept;
  ~Series();  // waits for save_async()

  // Reads the first 4 KiB of each file. Errors: file_not_found (no folder), those of the system.
  [[nodiscard]] Result<SeriesListing> list() const;

  // The checkpoint with the highest sequence number, the best score (the lowest sequence number of
  // equal ones), or this step, of those that open_entry() opens. Errors: step_not_found, also where
  // there is no folder; at(): that of open_entry(), if there is one that does not open.
  [[nodiscard]] Result<SeriesEntry> latest() const;
  [[nodiscard]] Result<SeriesEntry> best() const;
  [[nodiscard]] Result<SeriesEntry> at(std::uint64_t step) const;

  // Opens the checkpoint: it must be complete and sealed, and state what `entry` says. Reads the
  // headers alone. Errors: those of Checkpoint::open() with a seal required, seal_header_mismatch
  // (rewritten since it was sealed), shard_tensor_missing, file_changed (it is another one now).
  [[nodiscard]] static Result<Checkpoint> open_entry(const SeriesEntry& entry);

  // verify() of every checkpoint. Damage is a result, not an error.
  [[nodiscard]] Result<SeriesVerify> verify(const VerifyOptions& options = {}) const;

  // Writes a checkpoint that follows the latest one, then prunes. A checkpoint that could be
  // written stays where pruning fails, which is a note. Errors: step_not_after (the latest has this
  // step or a later one), series_locked, series_mismatch, invalid_argument (a score without a
  // metric), limit_exceeded, those of save() and save_set(); nothing is changed then.
  [[nodiscard]] Result<SeriesSave> save(const SavePlan& plan, const SeriesStamp& stamp);

  // The same in the background: returns once the plan's memory is copied, by as many threads as
  // `file.threads` says. The copy's memory, as much as the plan has, is kept for the next call, so
  // that only the first waits for pages. Tensors of checkpoints (TensorRef) are not copied. Without
  // that memory or a thread it saves before it returns, which is a note. One at a time: every call
  // that writes waits for the one before, and returns its error if wait() has not done so yet.
  [[nodiscard]] Result<PendingSave> save_async(const SavePlan& plan, const SeriesStamp& stamp);

  // Removes what the options do not keep. What does not open is neither removed nor counted as
  // kept, and if there is no latest() nothing is removed. Errors: series_locked, file_not_found,
  // those of the system. A dry run needs no lock.
  [[nodiscard]] Result<PruneReport> prune(bool dry_run = false);

  // Makes at(step) the latest, by moving all later ones to the folder `abandoned` in this one,
  // where they are no longer part of the series. Nothing is deleted. Errors: those of at();
  // series_locked, those of the system, also of reading a file that may be a later checkpoint. If
  // it ends early, the series ends at a later step.
  [[nodiscard]] Result<RollBackReport> roll_back(std::uint64_t step);

 private:
  struct FLATBED_HIDDEN State;
  explicit Series(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace flatbed
