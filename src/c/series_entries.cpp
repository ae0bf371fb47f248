// The checkpoints that functions over series give, in flatbed.h.
#include "base/str_cat.hpp"
#include "c/checkpoints.hpp"
#include "c/guard.hpp"
#include "c/series_results.hpp"

namespace flatbed::c {

Entries entries_of(SeriesEntry entry) {
  auto entries = std::make_unique<flatbed_series_entries>();
  entries->notes = std::move(entry.notes);
  entries->entries.push_back({std::move(entry)});
  return entries;
}

namespace {

flatbed_series_entry entry_to_c(const flatbed_series_entries::Entry& from) {
  const SeriesEntry& stated = from.entry;
  flatbed_series_entry entry{};
  entry.path = to_c(std::string_view(stated.path.native()));
  entry.content = to_c(std::string_view(stated.content));
  entry.parent = to_c(std::string_view(stated.parent));
  entry.sequence = stated.sequence;
  entry.step = stated.step;
  entry.nbytes = stated.nbytes;
  entry.saved_at_ms = stated.saved_at;
  entry.epoch = stated.epoch.value_or(0);
  entry.score = stated.score.value_or(0);
  entry.has_epoch = stated.epoch ? 1 : 0;
  entry.has_score = stated.score ? 1 : 0;
  entry.is_set = stated.is_set ? 1 : 0;
  entry.state = from.state;
  return entry;
}

Result<const flatbed_series_entries::Entry*> entry_at(const flatbed_series_entries* entries,
                                                      std::uint64_t index) {
  FLATBED_TRY(check(entries, "entries"));
  if (index >= entries->entries.size()) {
    return index_error(index, entries->entries.size(), "index");
  }
  return &entries->entries[index];
}

}  // namespace

}  // namespace flatbed::c

using flatbed::Result;
using flatbed::c::entry_at;
using flatbed::c::guarded;
using flatbed::c::is_handle;
using Entry = flatbed_series_entries::Entry;

void flatbed_series_entries_free(flatbed_series_entries* entries) {
  flatbed::c::free_handle(entries);
}

uint64_t flatbed_series_entry_count(const flatbed_series_entries* entries) {
  return is_handle(entries) ? entries->entries.size() : 0;
}

int32_t flatbed_series_entry_at(const flatbed_series_entries* entries, uint64_t index,
                                flatbed_series_entry* out, flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(flatbed::c::check_report(out, "out"));
    FLATBED_ASSIGN(const Entry* const entry, entry_at(entries, index));
    flatbed::c::fill_report(flatbed::c::entry_to_c(*entry), out);
    return {};
  });
}

int32_t flatbed_series_entry_open(const flatbed_series_entries* entries, uint64_t index,
                                  flatbed_checkpoint** out, flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(flatbed::c::clear_out(out));
    FLATBED_ASSIGN(const Entry* const entry, entry_at(entries, index));
    FLATBED_ASSIGN(flatbed::Checkpoint opened, flatbed::Series::open_entry(entry->entry));
    return flatbed::c::give(std::move(opened), out);
  });
}

int32_t flatbed_series_entry_verified(const flatbed_series_entries* entries, uint64_t index,
                                      flatbed_verify_report* out, flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    if (out != nullptr) FLATBED_TRY(flatbed::c::check_report(out, "out"));
    FLATBED_ASSIGN(const Entry* const entry, entry_at(entries, index));
    if (!entry->verified) {
      return flatbed::make_error(flatbed::ErrorCode::invalid_argument,
                                 "argument 'entries': found no results of verifying, expected "
                                 "those of flatbed_series_verify()");
    }
    if (!*entry->verified) return entry->verified->error();
    if (out != nullptr) {
      flatbed::c::fill_report(flatbed::c::report_to_c(**entry->verified), out);
    }
    return {};
  });
}

uint64_t flatbed_series_note_count(const flatbed_series_entries* entries) {
  return is_handle(entries) ? entries->notes.size() : 0;
}

int32_t flatbed_series_note_at(const flatbed_series_entries* entries, uint64_t index,
                               flatbed_string* note, flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    if (note == nullptr) return flatbed::c::null_argument("note");
    FLATBED_TRY(flatbed::c::check(entries, "entries"));
    if (index >= entries->notes.size()) {
      return flatbed::c::index_error(index, entries->notes.size(), "index");
    }
    *note = flatbed::c::to_c(std::string_view(entries->notes[index]));
    return {};
  });
}

flatbed_string flatbed_series_metric(const flatbed_series_entries* entries) {
  if (!is_handle(entries)) return {nullptr, 0};
  return flatbed::c::to_c(std::string_view(entries->metric));
}

uint32_t flatbed_series_mode(const flatbed_series_entries* entries) {
  return is_handle(entries) ? entries->mode : uint32_t{FLATBED_SCORE_ANY};
}

uint32_t flatbed_series_is_whole(const flatbed_series_entries* entries) {
  return is_handle(entries) && entries->is_whole ? 1 : 0;
}
