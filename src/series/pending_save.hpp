// PendingSave::State: the result of a save that runs on another thread, once it is there.
// Thread-safe.
#pragma once

#include <condition_variable>
#include <mutex>
#include <optional>

#include "flatbed/series.hpp"

namespace flatbed {

struct PendingSave::State {
  void set(Result<SeriesSave> value);
  [[nodiscard]] Result<SeriesSave> wait();
  [[nodiscard]] bool ready();
  // Of a save that is done: its error, if nobody had it from wait().
  [[nodiscard]] std::optional<Error> take_error();

  std::mutex mutex;
  std::condition_variable done;
  std::optional<Result<SeriesSave>> result;
  bool was_returned = false;
};

}  // namespace flatbed
