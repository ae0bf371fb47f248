#include "progress.hpp"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <string>

#include "format_text.hpp"

namespace flatbed::tool {
namespace {

constexpr std::chrono::milliseconds kRedrawInterval{100};
// Work of fewer bytes is drawn only if it takes longer than this, as on a slow network.
constexpr std::uint64_t kSmallNbytes = std::uint64_t{8} << 20;
constexpr std::chrono::seconds kSilence{1};
constexpr std::string_view kClearLine = "\r\033[K";

void write_stderr(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

// A terminal without a name, and the one called dumb, print the codes that erase a line.
bool can_erase() {
  const char* const terminal = std::getenv("TERM");
  return terminal != nullptr && *terminal != '\0' && std::string_view(terminal) != "dumb";
}

// As many whole parts of a line as fit.
std::string fitting(std::initializer_list<std::string> parts, std::size_t width) {
  std::string line;
  for (const std::string& part : parts) {
    if (line.size() + part.size() > width) break;
    line += part;
  }
  return line;
}

}  // namespace

ProgressLine::ProgressLine(std::string_view verb, std::size_t jobs, bool enabled)
    : verb_(verb),
      enabled_(enabled && stderr_is_terminal() && can_erase()),
      jobs_(enabled_ ? jobs : 0) {}

ProgressLine::~ProgressLine() { clear(); }

void ProgressLine::expect(std::size_t job, const std::filesystem::path& path) {
  if (!enabled_) return;
  std::error_code ignored;
  const std::uintmax_t nbytes = std::filesystem::file_size(path, ignored);
  if (!ignored) jobs_[job].bytes_total = nbytes;
}

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
  flatbed::Progress sum;
  for (const flatbed::Progress& job : jobs_) {
    sum.bytes_done += job.bytes_done;
    sum.bytes_total += job.bytes_total;
  }
  if (sum.bytes_total < kSmallNbytes && now - start_ < kSilence) return;
  last_draw_ = now;
  drawn_ = true;

  const double seconds = std::chrono::duration<double>(now - start_).count();
  const double rate = seconds > 0 ? static_cast<double>(sum.bytes_done) / seconds : 0;
  std::string files, left;
  if (jobs_.size() > 1)
    files = fmt::format(" {} of {} files,", std::min(finished_ + 1, jobs_.size()), jobs_.size());
  if (has_total_ && rate > 0 && sum.bytes_total >= sum.bytes_done) {
    const double nbytes = static_cast<double>(sum.bytes_total - sum.bytes_done);
    left = fmt::format(", {} left", time_text(nbytes / rate));
  }
  const std::string line = fitting(
      {std::string(verb_), files,
       has_total_ ? fmt::format(" {} of {}", size_text(sum.bytes_done), size_text(sum.bytes_total))
                  : " " + size_text(sum.bytes_done),
       fmt::format(", {}/s", size_text(static_cast<std::uint64_t>(rate))), left},
      terminal_columns(Stream::error) - 1);
  write_stderr(fmt::format("{}{}", kClearLine, line));
}

std::size_t terminal_columns(Stream stream) {
  constexpr std::size_t kUsual = 80;
  const int descriptor = stream == Stream::output ? STDOUT_FILENO : STDERR_FILENO;
  struct winsize size {};
  if (ioctl(descriptor, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return kUsual;
  return size.ws_col;
}

bool stderr_is_terminal() { return isatty(STDERR_FILENO) == 1; }
bool stdout_is_terminal() { return isatty(STDOUT_FILENO) == 1; }

}  // namespace flatbed::tool
