#include "series_json.hpp"

#include <fmt/format.h>

#include <cmath>
#include <optional>

#include "element_text.hpp"

namespace flatbed::tool {
namespace {

void write_signed(std::int64_t value, JsonWriter& json) { json.digits(fmt::format("{}", value)); }

void write_score(const std::optional<double>& score, JsonWriter& json) {
  json.key("score");
  if (!score) {
    json.null();
  } else if (std::isfinite(*score)) {
    json.real(*score);
  } else {
    json.text(real_text(*score));
  }
}

// All members but the closing brace.
void begin_checkpoint(const SeriesEntry& entry, JsonWriter& json) {
  json.begin_object().path("path", entry.path).key("sequence").number(entry.sequence);
  json.key("step").number(entry.step);
  write_score(entry.score, json);
  json.key("epoch");
  if (entry.epoch) {
    write_signed(*entry.epoch, json);
  } else {
    json.null();
  }
  json.key("nbytes").number(entry.nbytes).key("saved_at");
  write_signed(entry.saved_at, json);
  json.key("sharded").boolean(entry.is_set).key("content").text(entry.content).key("parent");
  entry.parent.empty() ? json.null() : json.text(entry.parent);
}

void write_error(const std::optional<Error>& error, JsonWriter& json) {
  json.key("error");
  error ? json.error(*error) : json.null();
}

void write_damaged(const VerifiedEntry& verified, JsonWriter& json) {
  json.key("damaged").begin_array();
  const Result<Checkpoint> opened = Series::open_entry(verified.entry);
  if (opened) {
    for (const DamagedRange& range : verified.report->damaged) {
      json.begin_object().path("file", opened->files()[range.file].path);
      json.key("tensor").text(opened->tensors()[range.tensor].name);
      json.key("begin").number(range.begin).key("end").number(range.end).end_object();
    }
  }
  json.end_array().key("damaged_complete").boolean(verified.report->damaged_complete);
}

}  // namespace

void write_checkpoint(std::string_view key, const SeriesEntry* entry, JsonWriter& json) {
  json.key(key);
  if (entry == nullptr) {
    json.null();
    return;
  }
  begin_checkpoint(*entry, json);
  json.end_object();
}

void write_checkpoints(std::string_view key, const std::vector<SeriesEntry>& entries,
                       JsonWriter& json) {
  json.key(key).begin_array();
  for (const SeriesEntry& entry : entries) {
    begin_checkpoint(entry, json);
    json.end_object();
  }
  json.end_array();
}

void write_table(const SeriesTable& table, JsonWriter& json) {
  const SeriesListing& listing = table.listing;
  json.key("metric");
  listing.metric ? json.text(*listing.metric) : json.null();
  json.key("mode");
  listing.metric ? json.text(name(listing.mode)) : json.null();
  json.key("checkpoints").begin_array();
  for (const SeriesRow& row : table.rows) {
    begin_checkpoint(row.entry, json);
    json.key("latest").boolean(row.latest).key("best").boolean(row.best);
    json.key("whole").boolean(!row.error);
    write_error(row.error, json);
    json.end_object();
  }
  json.end_array();
  write_notes(listing.notes, json);
}

void write_verified(const SeriesVerify& verified, JsonWriter& json) {
  json.key("checkpoints").begin_array();
  for (const VerifiedEntry& one : verified.entries) {
    begin_checkpoint(one.entry, json);
    json.key("state").text(!one.report ? "error" : one.ok() ? "sealed" : "damaged");
    write_error(one.report ? std::nullopt : std::optional(one.report.error()), json);
    if (one.report) {
      json.key("bytes_checked").number(one.report->bytes_checked);
      json.key("chunks_checked").number(one.report->chunks_checked);
      write_damaged(one, json);
    }
    json.end_object();
  }
  json.end_array();
  write_notes(verified.notes, json);
}

void write_notes(const std::vector<std::string>& notes, JsonWriter& json) {
  json.key("notes").begin_array();
  for (const std::string& note : notes) json.text(note);
  json.end_array();
}

}  // namespace flatbed::tool
