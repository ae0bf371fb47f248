#include "convert_set.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <string>
#include <utility>

#include "convert_output.hpp"
#include "format_text.hpp"

namespace flatbed::tool {
namespace {

namespace fs = std::filesystem;

struct Unit {
  std::string_view name;  // in lower case
  double nbytes;
};
constexpr std::array kUnits{
    Unit{"", 1},
    Unit{"b", 1},
    Unit{"k", 1e3},
    Unit{"kb", 1e3},
    Unit{"m", 1e6},
    Unit{"mb", 1e6},
    Unit{"g", 1e9},
    Unit{"gb", 1e9},
    Unit{"t", 1e12},
    Unit{"tb", 1e12},
    Unit{"kib", 1024.0},
    Unit{"mib", 1024.0 * 1024},
    Unit{"gib", 1024.0 * 1024 * 1024},
    Unit{"tib", 1024.0 * 1024 * 1024 * 1024},
};
constexpr double kMaxShardNbytes = 9e18;  // below 2^63

std::string_view trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(' ');
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(' ') - first + 1);
}

}  // namespace

Result<std::uint64_t> parse_shard_size(std::string_view word) {
  const std::string_view text = trimmed(word);
  const std::size_t digits = std::min(text.find_first_not_of("0123456789."), text.size());
  std::string name(trimmed(text.substr(digits)));
  for (char& c : name) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  const auto* unit =
      std::find_if(kUnits.begin(), kUnits.end(), [&](const Unit& row) { return row.name == name; });
  double number = 0;
  const char* const end = text.data() + digits;
  const auto [stop, failed] = std::from_chars(text.data(), end, number, std::chars_format::fixed);
  const bool is_number = digits != 0 && failed == std::errc() && stop == end;
  if (is_number && unit != kUnits.end()) {
    const double nbytes = std::floor(number * unit->nbytes);
    if (nbytes >= 1 && nbytes <= kMaxShardNbytes) return static_cast<std::uint64_t>(nbytes);
  }
  return Error{
      ErrorCode::invalid_argument,
      fmt::format("found {}, expected a size, such as 5GB, 500MB, 2GiB or a number of bytes",
                  quoted_text(word, 40))};
}

void list_shards(const ConvertJob& job, const std::vector<PlannedShard>& shards, Outcome& outcome) {
  for (const PlannedShard& shard : shards) {
    outcome.shards.push_back(
        {job.output / shard.file_name, shard.items.size(), shard.nbytes, 0, {}});
  }
}

void note_saved(SaveSetReport report, const ConvertOptions& options, Outcome& outcome) {
  for (std::size_t i = 0; i < report.shards.size(); ++i) {
    outcome.shards[i].file_nbytes = report.shards[i].nbytes;
    outcome.shards[i].content = std::move(report.shards[i].content);
  }
  outcome.report = std::move(report.files);
  outcome.notes.insert(outcome.notes.end(), report.notes.begin(), report.notes.end());
  outcome.status = options.dry_run ? Status::planned : Status::converted;
}

SaveSetOptions save_set_options(const ConvertJob& job, const ConvertOptions& options,
                                const ConvertWatch& watch) {
  SaveSetOptions saving;
  saving.file = save_options(job, options, watch);
  saving.max_shard_nbytes = job.max_shard_nbytes;
  saving.replace = options.force;
  return saving;
}

Result<void> write_set(const ConvertJob& job, const SavePlan& plan, const ConvertOptions& options,
                       const ConvertWatch& watch, Outcome& outcome) {
  const SaveSetOptions saving = save_set_options(job, options, watch);
  FLATBED_ASSIGN(const std::vector<PlannedShard> shards,
                 plan_shards(plan, saving.max_shard_nbytes));
  const auto found = compare_set_output(job.output, plan, saving, compare_data(options));
  FLATBED_ASSIGN(const bool done, judge_output(job, options, found, outcome));
  list_shards(job, shards, outcome);
  if (done) return {};
  note_unsealed(plan, options, outcome);
  watch.announce(outcome);
  const fs::path target = target_of(job, options);
  FLATBED_ASSIGN(SaveSetReport report, save_set(target, plan, saving));
  note_saved(std::move(report), options, outcome);
  return {};
}

}  // namespace flatbed::tool
