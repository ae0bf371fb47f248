// Series that are written, in flatbed.h: saving, pruning, rolling back.
#include <algorithm>
#include <tuple>

#include "base/str_cat.hpp"
#include "c/guard.hpp"
#include "c/saving.hpp"
#include "c/series_results.hpp"
#include "flatbed/check_plan.hpp"
#include "flatbed/series.hpp"

namespace flatbed::c {

namespace {

// What a caller passes to a save, checked.
Result<SeriesStamp> read_save(const flatbed_series* series, const flatbed_save_plan* plan,
                              const flatbed_series_stamp* given) {
  FLATBED_TRY(check(series, "series"));
  FLATBED_TRY(check(plan, "plan"));
  FLATBED_ASSIGN(const flatbed_series_stamp read, read_struct(given, "stamp"));
  FLATBED_ASSIGN(const bool has_score, read_flag(read.has_score, "stamp.has_score"));
  if (plan->own_tree) FLATBED_TRY(check_plan_tree(plan->plan));
  SeriesStamp stamp{.step = read.step, .score = {}};
  if (has_score) stamp.score = read.score;
  return stamp;
}

// Either may be null.
Result<void> check_results(flatbed_series_entries** out, const flatbed_save_report* report) {
  if (out != nullptr) *out = nullptr;
  if (report != nullptr) FLATBED_TRY(check_report(report, "report"));
  return {};
}

Result<void> give_saved(SeriesSave saved, flatbed_series_entries** out,
                        flatbed_save_report* report) {
  if (report != nullptr) fill_report(report_to_c(saved.files, saved.file_count), report);
  if (out == nullptr) return {};
  Entries entries = entries_of(std::move(saved.entry));
  add_entries(std::move(saved.pruned), FLATBED_ENTRY_REMOVED, *entries);
  entries->notes = std::move(saved.notes);
  *out = entries.release();
  return {};
}

// In the order of a listing.
Result<void> give_pruned(PruneReport pruned, flatbed_series_entries** out) {
  Entries entries = std::make_unique<flatbed_series_entries>();
  add_entries(std::move(pruned.kept), FLATBED_ENTRY_PRESENT, *entries);
  add_entries(std::move(pruned.removed), FLATBED_ENTRY_REMOVED, *entries);
  std::ranges::sort(entries->entries, {}, [](const flatbed_series_entries::Entry& entry) {
    return std::tie(entry.entry.sequence, entry.entry.path.native());
  });
  entries->notes = std::move(pruned.notes);
  *out = entries.release();
  return {};
}

}  // namespace

}  // namespace flatbed::c

using flatbed::PendingSave;
using flatbed::Result;
using flatbed::SeriesSave;
using flatbed::SeriesStamp;
using flatbed::c::check;
using flatbed::c::check_results;
using flatbed::c::guarded;

int32_t flatbed_series_save(flatbed_series* series, const flatbed_save_plan* plan,
                            const flatbed_series_stamp* stamp, flatbed_series_entries** out,
                            flatbed_save_report* report, flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(check_results(out, report));
    FLATBED_ASSIGN(const SeriesStamp at, flatbed::c::read_save(series, plan, stamp));
    FLATBED_ASSIGN(SeriesSave saved, series->series.save(plan->plan, at));
    return flatbed::c::give_saved(std::move(saved), out, report);
  });
}

int32_t flatbed_series_save_async(flatbed_series* series, const flatbed_save_plan* plan,
                                  const flatbed_series_stamp* stamp, flatbed_pending_save** out,
                                  flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(flatbed::c::clear_out(out));
    FLATBED_ASSIGN(const SeriesStamp at, flatbed::c::read_save(series, plan, stamp));
    FLATBED_ASSIGN(PendingSave pending, series->series.save_async(plan->plan, at));
    *out = std::make_unique<flatbed_pending_save>(std::move(pending)).release();
    return {};
  });
}

uint32_t flatbed_pending_save_ready(const flatbed_pending_save* pending) {
  return !flatbed::c::is_handle(pending) || pending->pending.ready() ? 1 : 0;
}

int32_t flatbed_pending_save_wait(const flatbed_pending_save* pending, flatbed_series_entries** out,
                                  flatbed_save_report* report, flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(check_results(out, report));
    FLATBED_TRY(check(pending, "pending"));
    FLATBED_ASSIGN(SeriesSave saved, pending->pending.wait());
    return flatbed::c::give_saved(std::move(saved), out, report);
  });
}

void flatbed_pending_save_free(flatbed_pending_save* pending) { flatbed::c::free_handle(pending); }

int32_t flatbed_series_prune(flatbed_series* series, uint32_t dry_run, flatbed_series_entries** out,
                             flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(check_results(out, nullptr));
    FLATBED_TRY(check(series, "series"));
    FLATBED_ASSIGN(const bool dry, flatbed::c::read_flag(dry_run, "dry_run"));
    FLATBED_ASSIGN(flatbed::PruneReport pruned, series->series.prune(dry));
    if (out == nullptr) return {};
    return flatbed::c::give_pruned(std::move(pruned), out);
  });
}

int32_t flatbed_series_roll_back(flatbed_series* series, uint64_t step,
                                 flatbed_series_entries** out, flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(check_results(out, nullptr));
    FLATBED_TRY(check(series, "series"));
    FLATBED_ASSIGN(flatbed::RollBackReport back, series->series.roll_back(step));
    if (out == nullptr) return {};
    flatbed::c::Entries entries = flatbed::c::entries_of(std::move(back.latest));
    flatbed::c::add_entries(std::move(back.moved), FLATBED_ENTRY_MOVED, *entries);
    *out = entries.release();
    return {};
  });
}
