#include "series/pending_save.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/str_cat.hpp"
#include "save/save_source.hpp"
#include "series/series_state.hpp"

namespace flatbed {

void PendingSave::State::set(Result<SeriesSave> value) {
  {
    const std::lock_guard lock(mutex);
    result.emplace(std::move(value));
  }
  done.notify_all();
}

Result<SeriesSave> PendingSave::State::wait() {
  std::unique_lock lock(mutex);
  // Not wait(): compiled with GCC 12 or later, its symbol is one that older systems do not have.
  while (!done.wait_for(lock, std::chrono::hours(1), [this] { return result.has_value(); })) {
  }
  was_returned = true;
  return *result;
}

bool PendingSave::State::ready() {
  const std::lock_guard lock(mutex);
  return result.has_value();
}

std::optional<Error> PendingSave::State::take_error() {
  const std::lock_guard lock(mutex);
  if (!result || *result || was_returned) return std::nullopt;
  was_returned = true;
  return result->error();
}

bool PendingSave::ready() const { return state_->ready(); }

Result<SeriesSave> PendingSave::wait() const { return state_->wait(); }

Result<void> Series::State::finish_pending() {
  crew.reset();  // joins
  const std::shared_ptr<PendingSave::State> last = std::move(pending);
  if (last == nullptr) return {};
  const std::optional<Error> error = last->take_error();
  if (error) return with_context("the save before this one failed", *error);
  return {};
}

Result<PendingSave> Series::save_async(const SavePlan& plan, const SeriesStamp& stamp) {
  FLATBED_TRY(state_->finish_pending());
  const auto result = std::make_shared<PendingSave::State>();
  const auto save_now = [&](std::string_view why) {
    Result<SeriesSave> saved = state_->save(plan, stamp);
    if (saved) saved->notes.push_back(str_cat("saved before the call returned: ", why));
    result->set(std::move(saved));
    state_->pending = result;
    return PendingSave(result);
  };
  const unsigned threads = std::min(state_->options.file.threads, kMaxSaveThreads);
  const auto copied = std::make_shared<std::optional<SavePlan>>(state_->memory.copy(plan, threads));
  if (!*copied) return save_now("there is no memory for a copy");
  auto crew = std::make_unique<ThreadCrew>();
  const auto work = [state = state_.get(), result, stamp, copied](unsigned) {
    Result<SeriesSave> saved = state->save(**copied, stamp);
    copied->reset();  // closes the checkpoints that it keeps open
    result->set(std::move(saved));
  };
  if (crew->start(1, 0, work) == 0) return save_now("there is no thread for it");
  state_->crew = std::move(crew);
  state_->pending = result;
  return PendingSave(result);
}

}  // namespace flatbed
