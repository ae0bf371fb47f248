#include "progress.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <string>

#include "format_text.hpp"

namespace flatbed::tool {
namespace {

constexpr std::chrono::milliseconds kRedrawInterval{100};
constexpr std::string_view kClearLine = "\r\033[K";

void write_stderr(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

}  // namespace

ProgressLine::ProgressLine(std::string_view verb, std::size_t jobs, bool enabled)
    : verb_(verb), enabled_(enabled && stderr_is_terminal()), jobs_(jobs) {}

ProgressLine::~ProgressLine() { clear(); }

void ProgressLine::update(std::size_t job, const flatbed::Progress& progress) {
  if (!enabled_) return;
  const std::lock_guard lock(mutex_);
  jobs_[job] = progress;
  draw();
}

ProgressCallback ProgressLine::callback(std::size_t job) {
  return [this, job](const flatbed::Progress& progress) -> Result<void> {
    update(job, progress);
    return {};
  };
}

void ProgressLine::finish(std::size_t job) {
  if (!enabled_) return;
  const std::lock_guard lock(mutex_);
  jobs_[job].bytes_done = jobs_[job].bytes_total;
  ++finished_;
}

void ProgressLine::clear() {
  if (!enabled_) return;
  const std::lock_guard lock(mutex_);
  if (drawn_) write_stderr(kClearLine);
  drawn_ = false;
  last_draw_ = {};
}

void ProgressLine::draw() {
  const Clock::time_point now = Clock::now();
  if (now - last_draw_ < kRedrawInterval) return;
  last_draw_ = now;
  drawn_ = true;

  flatbed::Progress sum;
  for (const flatbed::Progress& job : jobs_) {
    sum.bytes_done += job.bytes_done;
    sum.bytes_total += job.bytes_total;
  }
  const double seconds = std::chrono::duration<double>(now - start_).count();
  const double rate = seconds > 0 ? static_cast<double>(sum.bytes_done) / seconds : 0;
  std::string line = fmt::format("{}{}", kClearLine, verb_);
  if (jobs_.size() > 1) line += fmt::format(" {} of {} files,", finished_ + 1, jobs_.size());
  line += fmt::format(" {} of {}, {}/s", size_text(sum.bytes_done), size_text(sum.bytes_total),
                      size_text(static_cast<std::uint64_t>(rate)));
  if (rate > 0) {
    const double left = static_cast<double>(sum.bytes_total - sum.bytes_done) / rate;
    line += fmt::format(", {} left", time_text(left));
  }
  write_stderr(line);
}

bool stderr_is_terminal() { return isatty(STDERR_FILENO) == 1; }
bool stdout_is_terminal() { return isatty(STDOUT_FILENO) == 1; }

}  // namespace flatbed::tool
