// Series that are opened and read, in flatbed.h.
#include "flatbed/series.hpp"

#include "base/str_cat.hpp"
#include "c/callbacks.hpp"
#include "c/guard.hpp"
#include "c/saving.hpp"
#include "c/series_results.hpp"

namespace flatbed::c {

namespace {

static_assert(static_cast<int>(ScoreMode::min) + 1 == FLATBED_SCORE_MIN &&
              static_cast<int>(ScoreMode::max) + 1 == FLATBED_SCORE_MAX);

std::uint32_t mode_to_c(ScoreMode mode) { return static_cast<std::uint32_t>(mode) + 1; }

Result<SeriesOptions> to_cpp(const flatbed_series_options* given) {
  FLATBED_ASSIGN(const flatbed_series_options read, read_options(given));
  SeriesOptions options;
  FLATBED_ASSIGN(const std::string_view metric, read_string(read.metric, "metric"));
  if (!metric.empty()) options.metric = metric;
  FLATBED_TRY(check_number(read.mode, 3, "mode"));
  if (read.mode != FLATBED_SCORE_ANY) options.mode = static_cast<ScoreMode>(read.mode - 1);
  options.keep_last = read.keep_last;
  options.keep_every = read.keep_every;
  FLATBED_ASSIGN(const bool keep_no_best, read_flag(read.keep_no_best, "keep_no_best"));
  if (keep_no_best && read.keep_best != 0) {
    return make_error(ErrorCode::invalid_argument, "argument 'keep_best': found ", read.keep_best,
                      ", expected 0 with keep_no_best");
  }
  if (keep_no_best) options.keep_best = 0;
  if (read.keep_best != 0) options.keep_best = read.keep_best;
  if (read.max_shard_nbytes != 0) options.max_shard_nbytes = read.max_shard_nbytes;
  FLATBED_ASSIGN(const flatbed_save_options save, read_options(read.save));
  FLATBED_ASSIGN(options.file, file_options(save));
  return options;
}

Result<void> give_entries(Entries entries, flatbed_series_entries** out) {
  *out = entries.release();
  return {};
}

// What one function of `series`, which gives one checkpoint, finds.
template <typename Find>
Result<void> find_entry(const flatbed_series* series, flatbed_series_entries** out, Find find) {
  FLATBED_TRY(clear_out(out));
  FLATBED_TRY(check(series, "series"));
  FLATBED_ASSIGN(SeriesEntry found, find(series->series));
  return give_entries(entries_of(std::move(found)), out);
}

Result<VerifyOptions> to_cpp(const flatbed_verify_options* given) {
  FLATBED_ASSIGN(const flatbed_verify_options read, read_options(given));
  if (read.damaged != nullptr) {
    return make_error(ErrorCode::invalid_argument,
                      "argument 'options': found a function for damaged ranges, expected NULL: "
                      "open the checkpoint and verify it");
  }
  VerifyOptions options;
  if (read.threads != 0) options.threads = read.threads;
  options.progress = progress_callback(read.progress, read.context);
  FLATBED_ASSIGN(options.cancel, read_cancel(read.cancel));
  return options;
}

}  // namespace

}  // namespace flatbed::c

using flatbed::Result;
using flatbed::Series;
using flatbed::c::check;
using flatbed::c::clear_out;
using flatbed::c::Entries;
using flatbed::c::find_entry;
using flatbed::c::guarded;

int32_t flatbed_series_open(const char* folder, const flatbed_series_options* options,
                            flatbed_series** out, flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(clear_out(out));
    FLATBED_ASSIGN(const std::filesystem::path path, flatbed::c::read_path(folder, "folder"));
    FLATBED_ASSIGN(const flatbed::SeriesOptions series_options, flatbed::c::to_cpp(options));
    FLATBED_ASSIGN(Series opened, Series::open(path, series_options));
    *out = std::make_unique<flatbed_series>(std::move(opened)).release();
    return {};
  });
}

void flatbed_series_free(flatbed_series* series) { flatbed::c::free_handle(series); }

int32_t flatbed_series_list(const flatbed_series* series, flatbed_series_entries** out,
                            flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(clear_out(out));
    FLATBED_TRY(check(series, "series"));
    FLATBED_ASSIGN(flatbed::SeriesListing listing, series->series.list());
    Entries entries = std::make_unique<flatbed_series_entries>();
    flatbed::c::add_entries(std::move(listing.entries), FLATBED_ENTRY_PRESENT, *entries);
    entries->notes = std::move(listing.notes);
    entries->metric = listing.metric.value_or("");
    entries->mode = flatbed::c::mode_to_c(listing.mode);
    return flatbed::c::give_entries(std::move(entries), out);
  });
}

int32_t flatbed_series_latest(const flatbed_series* series, flatbed_series_entries** out,
                              flatbed_error* error) {
  return guarded(error, [&]() {
    return find_entry(series, out, [](const Series& in) { return in.latest(); });
  });
}

int32_t flatbed_series_best(const flatbed_series* series, flatbed_series_entries** out,
                            flatbed_error* error) {
  return guarded(
      error, [&]() { return find_entry(series, out, [](const Series& in) { return in.best(); }); });
}

int32_t flatbed_series_at(const flatbed_series* series, uint64_t step, flatbed_series_entries** out,
                          flatbed_error* error) {
  return guarded(error, [&]() {
    return find_entry(series, out, [step](const Series& in) { return in.at(step); });
  });
}

int32_t flatbed_series_verify(const flatbed_series* series, const flatbed_verify_options* options,
                              flatbed_series_entries** out, flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(clear_out(out));
    FLATBED_TRY(check(series, "series"));
    FLATBED_ASSIGN(const flatbed::VerifyOptions verify_options, flatbed::c::to_cpp(options));
    FLATBED_ASSIGN(flatbed::SeriesVerify verified, series->series.verify(verify_options));
    Entries entries = std::make_unique<flatbed_series_entries>();
    entries->is_whole = verified.ok();
    for (flatbed::VerifiedEntry& entry : verified.entries) {
      entries->entries.push_back(
          {std::move(entry.entry), FLATBED_ENTRY_PRESENT, std::move(entry.report)});
    }
    entries->notes = std::move(verified.notes);
    return flatbed::c::give_entries(std::move(entries), out);
  });
}
