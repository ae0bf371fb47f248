#include "convert_text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "crc_text.hpp"
#include "format_text.hpp"
#include "picks.hpp"

namespace flatbed::tool {
namespace {

// "3 tensors, 2 of them cast to BF16".
std::string tensors_text(const Outcome& outcome, const ConvertOptions& options) {
  const std::string all = count_text(outcome.tensors, "tensor");
  if (!options.cast.dtype) return all;
  return fmt::format("{}, {} of them cast to {}", all, number_text(outcome.cast),
                     name(*options.cast.dtype));
}

std::string in_shards(const Outcome& outcome) {
  return outcome.shards.empty() ? "" : " in " + count_text(outcome.shards.size(), "file");
}

bool is_sealed_set(const Outcome& outcome) {
  return !outcome.shards.empty() && !outcome.shards[0].content.empty();
}

void write_shards(const std::vector<ShardOutcome>& shards, JsonWriter& json) {
  json.key("shards").begin_array();
  for (const ShardOutcome& shard : shards) {
    json.begin_object().path("path", shard.path).key("tensors").number(shard.tensors);
    json.key("nbytes").number(shard.nbytes).key("file_nbytes").number(shard.file_nbytes);
    json.key("content");
    shard.content.empty() ? json.null() : json.text(shard.content);
    json.end_object();
  }
  json.end_array();
}

}  // namespace

std::string notes_text(const ConvertJob& job, const Outcome& outcome, std::size_t first) {
  std::string text;
  for (std::size_t i = first; i < outcome.notes.size(); ++i) {
    text += fmt::format("{}: note: {}\n", path_text(job.input), safe_text(outcome.notes[i]));
  }
  return text;
}

std::string result_text(const ConvertJob& job, const Outcome& outcome,
                        const ConvertOptions& options) {
  if (outcome.status == Status::up_to_date) return "up to date";
  if (outcome.status == Status::planned) {
    return fmt::format("would be written: {}, {}{}", tensors_text(outcome, options),
                       size_text(outcome.nbytes), in_shards(outcome));
  }
  const std::string seal = job.torch ? "a PyTorch file"
                           : outcome.report.content.empty()
                               ? is_sealed_set(outcome) ? "sealed" : "unsealed"
                               : fmt::format("sealed, content {}", outcome.report.content);
  return fmt::format("written: {}, {}{}, {}, {:.1f} s", tensors_text(outcome, options),
                     size_text(outcome.report.nbytes), in_shards(outcome), seal, outcome.seconds);
}

std::string shards_text(const Outcome& outcome) {
  std::string text;
  if (outcome.status != Status::planned) return text;
  for (const ShardOutcome& shard : outcome.shards) {
    text += fmt::format("{}: {}, {}\n", path_text(shard.path), count_text(shard.tensors, "tensor"),
                        size_text(shard.nbytes));
  }
  return text;
}

std::string words_of(Status status) {
  std::string text(name(status));
  std::ranges::replace(text, '_', ' ');
  return text;
}

std::string last_column(const ConvertJob& job, const Outcome& outcome) {
  if (outcome.error) return fmt::format("[{}]", name(outcome.error->code));
  const std::uint64_t mismatched = outcome.report.crc.mismatched;
  if (mismatched == 0) return path_text(job.output);
  return fmt::format("{} (warning: CRC mismatch in {})", path_text(job.output),
                     count_text(mismatched, "record"));
}

void write_outcome(const ConvertJob& job, const Outcome& outcome, const ConvertOptions& options,
                   JsonWriter& json) {
  const bool written = outcome.status == Status::converted;
  json.path("input", job.input).path("output", job.output);
  json.key("status").text(name(outcome.status));
  json.key("found").text(outcome.found).key("chosen").text(outcome.chosen);
  json.key("weights");
  write_picks(outcome.weights, json);
  json.key("tensors").number(outcome.tensors).key("nbytes").number(outcome.nbytes);
  json.key("file_nbytes").number(outcome.report.nbytes).key("content");
  outcome.report.content.empty() ? json.null() : json.text(outcome.report.content);
  write_shards(outcome.shards, json);
  json.key("durable").boolean(written && outcome.report.durability == Durability::committed);
  json.key("seconds").real(outcome.seconds).key("notes").begin_array();
  for (const std::string& note : outcome.notes) json.text(note);
  json.end_array().key("warnings").begin_array();
  for (const std::string& warning : outcome.warnings) json.text(warning);
  json.end_array().key("chunks_reread").number(outcome.report.chunks_reread).key("crc");
  write_crc_json(outcome.report.crc, json);
  json.key("casts");
  write_casts_json(outcome.report.casts, written ? options.cast : CastChoice{}, json);
  json.key("error");
  outcome.error ? json.error(*outcome.error) : json.null();
}

ExitCode refuse_convert(const Error& error, ExitCode code, const ConvertOptions& options,
                        Output& output) {
  if (options.form == Form::json) {
    JsonWriter json(output);
    json.begin_result("convert").end_result(code, error);
  }
  print_error(error);
  return code;
}

}  // namespace flatbed::tool
