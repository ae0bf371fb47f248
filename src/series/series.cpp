#include "flatbed/series.hpp"

#include <algorithm>
#include <functional>
#include <system_error>
#include <utility>

#include "base/str_cat.hpp"
#include "base/utf8.hpp"
#include "series/choose.hpp"
#include "series/series_folder.hpp"
#include "series/series_state.hpp"

namespace flatbed {

namespace {

namespace fs = std::filesystem;

constexpr int kMaxRounds = 8;

Result<void> check_options(const SeriesOptions& options) {
  const auto wrong = [](const auto&... parts) {
    return make_error(ErrorCode::invalid_argument, parts...);
  };
  if (options.metric) {
    if (options.metric->empty() || options.metric->size() > kMaxMetricNbytes)
      return wrong("the metric's name has ", options.metric->size(), " bytes, expected 1 to ",
                   kMaxMetricNbytes);
    if (!is_utf8(*options.metric))
      return wrong("the metric ", quoted(std::string_view(*options.metric)), " is not UTF-8");
  }
  if (options.max_shard_nbytes == 0) return wrong("the size of a shard is 0 bytes");
  if (options.file.dry_run) return wrong("a series cannot be saved to in a dry run");
  return {};
}

// What one of the found entries is asked for. With a writer at work the one that was found may be
// gone by the time that it is opened; then there is another one.
Result<SeriesEntry> choose_with(
    const fs::path& folder, const std::function<Result<SeriesEntry>(const FoundSeries&)>& choose) {
  for (int round = 1;; ++round) {
    Result<FoundSeries> found = find_series(folder);
    if (!found && found.error().code == ErrorCode::file_not_found)
      return make_error(ErrorCode::step_not_found, "there is no folder ", quoted(folder.native()));
    if (!found) return std::move(found).error();
    Result<SeriesEntry> chosen = choose(*found);
    const auto is_gone = [](const FoundEntry& entry) {
      std::error_code ignored;
      return !fs::exists(fs::symlink_status(entry.entry.path, ignored));
    };
    const bool passed_over = !chosen || !chosen->notes.empty();
    if (round < kMaxRounds && passed_over && std::ranges::any_of(found->entries, is_gone)) continue;
    if (chosen) return chosen;
    return with_context(quoted(folder.native()), std::move(chosen).error());
  }
}

}  // namespace

Series::Series(std::unique_ptr<State> state) : state_(std::move(state)) {}
Series::Series(Series&& other) noexcept = default;
Series& Series::operator=(Series&& other) noexcept = default;
Series::~Series() = default;

Result<Series> Series::open(const fs::path& folder, const SeriesOptions& options) {
  FLATBED_TRY(check_options(options));
  std::error_code ignored;
  const fs::file_status status = fs::status(folder, ignored);
  if (fs::exists(status) && !fs::is_directory(status))
    return make_error(ErrorCode::not_a_regular_file, quoted(folder.native()), ": is not a folder");
  // A run with the wrong options is to end now, not at its first save.
  if ((options.metric || options.mode) && fs::exists(status)) {
    FLATBED_ASSIGN(const FoundSeries found, find_series(folder));
    const Result<ScoreKind> kind = agree_on_scores(options, found);
    if (!kind) return with_context(quoted(folder.native()), kind.error());
  }
  return Series(std::make_unique<State>(folder, options));
}

Result<SeriesListing> Series::list() const {
  FLATBED_ASSIGN(FoundSeries found, find_series(state_->folder));
  SeriesListing listing{{}, std::move(found.metric), found.mode, std::move(found.notes)};
  listing.entries.reserve(found.entries.size());
  for (FoundEntry& entry : found.entries) listing.entries.push_back(std::move(entry.entry));
  return listing;
}

Result<SeriesEntry> Series::latest() const { return choose_with(state_->folder, choose_latest); }

Result<SeriesEntry> Series::best() const { return choose_with(state_->folder, choose_best); }

Result<SeriesEntry> Series::at(std::uint64_t step) const {
  return choose_with(state_->folder,
                     [step](const FoundSeries& found) { return choose_step(found, step); });
}

}  // namespace flatbed
