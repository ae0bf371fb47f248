#include "bench_report.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "format_text.hpp"
#include "json_out.hpp"
#include "load_report.hpp"

namespace flatbed::tool {
namespace {

// The middle value, or the mean of the two middle values.
double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

double first_rate(const BenchFindings& findings, const BenchRow& row) {
  return gigabytes_per_second(findings.nbytes, row.first.seconds);
}

std::string threads_text(const BenchPath& path) {
  return path.threads == 0 ? "auto" : number_text(path.threads);
}

std::string choice_text(const BenchRun& run) {
  if (run.files_direct == 0) return "through the page cache";
  if (run.files_buffered == 0) return "with O_DIRECT";
  return fmt::format("{} with O_DIRECT and {} through the page cache",
                     count_text(run.files_direct, "file"), number_text(run.files_buffered));
}

// Index of the row with the fastest load(), of all loads or of the verified ones.
std::optional<std::size_t> fastest(const BenchFindings& findings, bool verified) {
  std::optional<std::size_t> best;
  for (std::size_t i = 0; i < findings.rows.size(); ++i) {
    const BenchRow& row = findings.rows[i];
    if (!row.path.is_load || (verified && !row.path.verified)) continue;
    if (!best || median(row.rates) > median(findings.rows[*best].rates)) best = i;
  }
  return best;
}

std::string fastest_text(const BenchFindings& findings, bool verified) {
  const std::optional<std::size_t> best = fastest(findings, verified);
  if (!best) return "";
  const BenchRow& row = findings.rows[*best];
  return fmt::format("fastest{}: {}, threads {}, {:.2f} GB/s\n", verified ? " verified" : "",
                     row.path.name, threads_text(row.path), median(row.rates));
}

std::string table_text(const BenchFindings& findings) {
  std::size_t width = 0;
  for (const BenchRow& row : findings.rows) width = std::max(width, columns(row.path.name));
  std::string text = fmt::format("{}  {:>7}  {:>6}  {:>6}  {:>6}..max, GB/s\n",
                                 padded("path", width), "threads", "first", "median", "min");
  for (const BenchRow& row : findings.rows) {
    const auto [low, high] = std::minmax_element(row.rates.begin(), row.rates.end());
    text += fmt::format("{}  {:>7}  {:>6.2f}  {:>6.2f}  {:>6.2f}..{:.2f}\n",
                        padded(row.path.name, width), threads_text(row.path),
                        first_rate(findings, row), median(row.rates), *low, *high);
  }
  return text;
}

void write_choice(const BenchRun& run, JsonWriter& json) {
  json.begin_object().key("files_direct").number(run.files_direct);
  json.key("files_buffered").number(run.files_buffered).end_object();
}

void write_row(const BenchFindings& findings, const BenchRow& row, JsonWriter& json) {
  const auto [low, high] = std::minmax_element(row.rates.begin(), row.rates.end());
  json.begin_object().key("name").text(row.path.name);
  json.key("verified").boolean(row.path.verified).key("threads");
  row.path.threads == 0 ? json.null() : json.number(row.path.threads);
  json.key("first_gb_per_second").real(first_rate(findings, row));
  json.key("median_gb_per_second").real(median(row.rates));
  json.key("min_gb_per_second").real(*low).key("max_gb_per_second").real(*high);
  json.key("gb_per_second").begin_array();
  for (const double rate : row.rates) json.real(rate);
  json.end_array().end_object();
}

void write_fastest(const BenchFindings& findings, bool verified, JsonWriter& json) {
  json.key(verified ? "fastest_verified" : "fastest");
  const std::optional<std::size_t> best = fastest(findings, verified);
  best ? json.number(*best) : json.null();
}

}  // namespace

void write_text(const BenchFindings& findings, const BenchOptions& options, Output& output) {
  output.write(fmt::format("{}: {}, {}, {}, to {}\n", path_text(options.path),
                           count_text(findings.tensors, "tensor"), size_text(findings.nbytes),
                           name(findings.seal), device_text(options.device)));
  output.write(table_text(findings));
  const BenchRow& automatic = findings.rows[0];
  const std::string first = choice_text(automatic.first);
  const std::string last = choice_text(automatic.last);
  output.write(fmt::format("automatic: {}{}\n", first, first == last ? "" : ", later " + last));
  output.write(fastest_text(findings, false));
  output.write(fastest_text(findings, true));
  for (const std::string& note : findings.notes) output.write(fmt::format("note: {}\n", note));
  output.write(fmt::format("{} after the first; nothing was dropped from the page cache\n",
                           count_text(options.runs, "round")));
}

void write_json(const BenchFindings& findings, const BenchOptions& options,
                const std::optional<Error>& error, Output& output) {
  JsonWriter json(output);
  json.begin_result("bench").path("path", options.path);
  json.key("device").text(device_text(options.device)).key("runs").number(options.runs);
  if (!error) {
    json.key("tensors").number(findings.tensors).key("nbytes").number(findings.nbytes);
    json.key("seal").text(name(findings.seal)).key("paths").begin_array();
    for (const BenchRow& row : findings.rows) write_row(findings, row, json);
    json.end_array().key("automatic").begin_object().key("first");
    write_choice(findings.rows[0].first, json);
    json.key("last");
    write_choice(findings.rows[0].last, json);
    json.end_object();
    write_fastest(findings, false, json);
    write_fastest(findings, true, json);
    json.key("notes").begin_array();
    for (const std::string& note : findings.notes) json.text(note);
    json.end_array();
  }
  json.end_result(exit_code(error), error);
}

ExitCode exit_code(const std::optional<Error>& error) {
  if (!error) return ExitCode::ok;
  return error->code == ErrorCode::cancelled ? ExitCode::interrupted : ExitCode::failure;
}

}  // namespace flatbed::tool
