#include "ls_json.hpp"

#include <fmt/format.h>

#include "describe.hpp"
#include "picks.hpp"
#include "totals.hpp"

namespace flatbed::tool {
namespace {

std::string_view stored_text(Stored stored) {
  switch (stored) {
    case Stored::plain:
      return "plain";
    case Stored::strided:
      return "strided";
    case Stored::byteswapped:
      return "byteswapped";
    case Stored::deflated:
      return "deflated";
    case Stored::computed:
      return "computed";
    case Stored::held:
      return "held";
  }
  return "";
}

void write_stats(const std::optional<TensorStats>& stats, JsonWriter& json) {
  if (!stats) {
    json.null();
    return;
  }
  const auto write_value = [&](std::string_view key, long double value) {
    json.key(key);
    if (stats->finite == 0) {
      json.null();
    } else {
      json.digits(stats->integral ? fmt::format("{:.0f}", value)
                                  : fmt::format("{}", static_cast<double>(value)));
    }
  };
  json.begin_object();
  write_value("min", stats->min);
  write_value("max", stats->max);
  json.key("mean");
  stats->finite == 0 ? json.null() : json.digits(fmt::format("{}", stats->mean));
  json.key("nan").number(stats->nans).key("inf").number(stats->infinities).end_object();
}

void write_tensor(const TensorInfo& tensor, const Listing& listing, JsonWriter& json) {
  json.begin_object().key("name").text(tensor.name).key("dtype").text(name(tensor.dtype));
  json.key("shape").begin_array();
  for (const std::uint64_t dimension : tensor.shape) json.number(dimension);
  json.end_array().key("nbytes").number(tensor.nbytes);
  json.key("stored").text(stored_text(tensor.stored)).key("storage").number(tensor.storage);
  if (tensor.stored != Stored::held) {
    json.key("file").number(tensor.where.file).key("offset").number(tensor.where.offset);
  }
  if (!listing.stats.empty()) {
    json.key("stats");
    write_stats(listing.stats[tensor.index], json);
  }
  json.end_object();
}

void write_entries(const Listing& listing, JsonWriter& json) {
  const Checkpoint& checkpoint = listing.checkpoint;
  json.key("tensors").begin_array();
  for (const std::uint32_t i : listing.order) write_tensor(checkpoint.tensors()[i], listing, json);
  json.end_array().key("aliases").begin_array();
  for (const Alias& alias : checkpoint.aliases()) {
    json.begin_object().key("name").text(alias.name).key("target").text(alias.target).end_object();
  }
  json.end_array();
}

void write_files(const Checkpoint& checkpoint, JsonWriter& json) {
  json.key("files").begin_array();
  for (const FileInfo& file : checkpoint.files()) {
    json.begin_object().path("path", file.path).key("nbytes").number(file.nbytes);
    json.key("seal").text(name(file.seal)).key("content");
    file.content.empty() ? json.null() : json.text(file.content);
    json.key("sidecar").boolean(file.sidecar).key("seal_note").text(file.seal_note).end_object();
  }
  json.end_array();
}

void write_metadata(const Checkpoint& checkpoint, JsonWriter& json) {
  json.key("metadata").begin_object();
  for (const auto& [key, value] : checkpoint.metadata()) {
    if (key != "flatbed" && !key.starts_with("flatbed.")) json.key(key).text(value);
  }
  json.end_object();
}

void write_totals(const Checkpoint& checkpoint, JsonWriter& json) {
  Totals totals;
  totals.add(checkpoint);
  json.key("tensor_count").number(totals.tensors()).key("parameters").number(totals.parameters());
  json.key("nbytes").number(totals.nbytes()).key("file_nbytes").number(totals.file_nbytes());
  json.key("dtypes").begin_array();
  for (const DtypeTotal& row : totals.dtypes()) {
    json.begin_object().key("dtype").text(name(row.dtype)).key("tensors").number(row.tensors);
    json.key("parameters").number(row.parameters).key("nbytes").number(row.nbytes).end_object();
  }
  json.end_array();
}

}  // namespace

void write_json(const Listing& listing, bool summary, JsonWriter& json) {
  const Checkpoint& checkpoint = listing.checkpoint;
  json.path("path", listing.path).key("container").text(container_text(checkpoint));
  json.key("kind").text(describe(checkpoint)).key("seal").text(name(checkpoint.seal()));
  write_totals(checkpoint, json);
  if (!summary) write_entries(listing, json);
  write_files(checkpoint, json);
  if (!summary) write_metadata(checkpoint, json);
  json.key("weights");
  write_picks(find_picks(checkpoint), json);
  json.key("has_tree").boolean(checkpoint.has_tree()).key("tree_error");
  const std::optional<Error> error = listing.tree_error();
  error ? json.error(*error) : json.null();
  json.key("notes").begin_array();
  for (const std::string& note : checkpoint.notes()) json.text(note);
  json.end_array();
}

}  // namespace flatbed::tool
