// ProgressLine: one line on standard error with the work done, its speed and the time left. It
// draws on a terminal only, only for work of some size, and never more than fits on one line.
// It is silent in a pipe, in a log and on a terminal that cannot erase. Thread-safe: several
// conversions may share one line.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <mutex>
#include <string_view>
#include <vector>

#include "flatbed/progress.hpp"

namespace flatbed::tool {

class ProgressLine {
 public:
  // `jobs` is the number of tasks that share the line; `verb` begins it, such as "converting".
  ProgressLine(std::string_view verb, std::size_t jobs, bool enabled);
  ~ProgressLine();
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  // Counts the size of the file as the job's work until its first update says what it is.
  void expect(std::size_t job, const std::filesystem::path& path);

  // For work whose size is known job by job only: the line then says neither of how much nor how
  // long.
  void hide_total() { has_total_ = false; }

  void update(std::size_t job, const flatbed::Progress& progress);
  // update() of this job as a callback, which borrows the line and never fails.
  [[nodiscard]] ProgressCallback callback(std::size_t job);
  void finish(std::size_t job);

  // Removes the line so that other text can be printed. The next update draws it again.
  void clear();

 private:
  using Clock = std::chrono::steady_clock;
  void draw();

  std::mutex mutex_;
  std::string_view verb_;
  bool enabled_;
  bool drawn_ = false;
  bool has_total_ = true;
  std::vector<flatbed::Progress> jobs_;  // empty unless enabled_
  std::size_t finished_ = 0;
  Clock::time_point start_ = Clock::now();
  Clock::time_point last_draw_{};
};

enum class Stream : std::uint8_t { output, error };

// The width of the terminal behind standard output or standard error; 80 if it does not say.
[[nodiscard]] std::size_t terminal_columns(Stream stream);

// Whether standard error or standard output is a terminal.
[[nodiscard]] bool stderr_is_terminal();
[[nodiscard]] bool stdout_is_terminal();

}  // namespace flatbed::tool
