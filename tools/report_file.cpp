#include "report_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "format_text.hpp"

namespace flatbed::tool {
namespace {

Error report_error(std::string_view name, std::string_view what, int cause) {
  const bool full = cause == ENOSPC || cause == EDQUOT || cause == EFBIG;
  const ErrorCode code = full              ? ErrorCode::no_space
                         : cause == EACCES ? ErrorCode::permission_denied
                         : cause == ENOENT ? ErrorCode::file_not_found
                                           : ErrorCode::io_error;
  return {code, fmt::format("{}: {}: {}", name, what, std::strerror(cause))};
}

// Whether a worker was killed in the middle of the last line.
bool is_cut(int descriptor) {
  struct stat status = {};
  char last = '\n';
  if (::fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode) || status.st_size == 0)
    return false;
  return ::pread(descriptor, &last, 1, status.st_size - 1) == 1 && last != '\n';
}

// Where the last line begins, which need not have ended.
off_t last_line(int descriptor, off_t nbytes) {
  std::array<char, 4096> piece;
  for (off_t end = nbytes - 1; end > 0;) {  // the last byte ends the line, or belongs to it
    const off_t begin = std::max<off_t>(end - static_cast<off_t>(piece.size()), 0);
    const auto wanted = static_cast<std::size_t>(end - begin);
    if (::pread(descriptor, piece.data(), wanted, begin) != static_cast<ssize_t>(wanted)) break;
    const std::size_t at = std::string_view(piece.data(), wanted).rfind('\n');
    if (at != std::string_view::npos) return begin + static_cast<off_t>(at) + 1;
    end = begin;
  }
  return 0;
}

// Mostly one write(). Pipes take a part of it where a signal comes, and a disk what fits: then the
// next one says why. Returns errno, or 0.
int write_all(int descriptor, std::string_view text) {
  while (!text.empty()) {
    const ssize_t put = ::write(descriptor, text.data(), text.size());
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return put < 0 ? errno : EIO;
    text.remove_prefix(static_cast<std::size_t>(put));
  }
  return 0;
}

// Whether lines can be appended: the last one begins like a line of a report, as far as it got
// before its worker was killed. What cannot be read is taken for a report.
bool is_report(int descriptor) {
  constexpr std::string_view kBegin = "{\"line\":";
  struct stat status = {};
  if (::fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode) || status.st_size == 0)
    return true;
  std::array<char, kBegin.size()> begin;
  const ssize_t got =
      ::pread(descriptor, begin.data(), begin.size(), last_line(descriptor, status.st_size));
  if (got < 0) return true;
  std::string_view line(begin.data(), static_cast<std::size_t>(got));
  line = line.substr(0, line.find('\n'));
  return !line.empty() && kBegin.starts_with(line);
}

}  // namespace

ReportFile::~ReportFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Result<void> ReportFile::open(const std::filesystem::path& path) {
  name_ = path_text(path);
  constexpr int kFlags = O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY;
  descriptor_ = ::open(path.c_str(), O_RDWR | kFlags, 0666);
  if (descriptor_ < 0) descriptor_ = ::open(path.c_str(), O_WRONLY | kFlags, 0666);
  if (descriptor_ < 0) return report_error(name_, "cannot be opened", errno);
  if (is_report(descriptor_)) return {};
  return Error{ErrorCode::invalid_argument,
               fmt::format("{}: not a report: its last line is not an object of this tool; name "
                           "another file",
                           name_)};
}

Result<void> ReportFile::append(std::string_view line) {
  const std::lock_guard guard(mutex_);
  if (descriptor_ < 0) return {};
  // Only looks at the end under the lock: without locks, O_APPEND still keeps lines apart.
  const bool locked = ::flock(descriptor_, LOCK_EX) == 0;
  const std::string text = (is_cut(descriptor_) ? "\n" : "") + std::string(line);
  const int cause = write_all(descriptor_, text);
  if (locked) ::flock(descriptor_, LOCK_UN);
  if (cause == 0) return {};
  ::close(std::exchange(descriptor_, -1));
  return report_error(name_, "cannot be written", cause);
}

}  // namespace flatbed::tool
