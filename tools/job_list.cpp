#include "job_list.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "convert_jobs.hpp"
#include "format_text.hpp"
#include "interrupt.hpp"
#include "text_hash.hpp"
#include "url_text.hpp"

namespace flatbed::tool {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kPieceNbytes = std::size_t{256} << 10;

Error system_error(std::string_view name, std::string_view what, int cause) {
  const ErrorCode code = cause == ENOENT                      ? ErrorCode::file_not_found
                         : cause == EACCES                    ? ErrorCode::permission_denied
                         : cause == ENOSPC || cause == EDQUOT ? ErrorCode::no_space
                                                              : ErrorCode::io_error;
  return {code, fmt::format("{}: {}: {}", name, what, std::strerror(cause))};
}

ssize_t read_some(int descriptor, char* out, std::size_t nbytes) {
  ssize_t got = 0;
  do {
    got = ::read(descriptor, out, nbytes);
  } while (got < 0 && errno == EINTR);
  return got;
}

Result<void> write_all(int descriptor, std::string_view bytes, std::string_view name) {
  while (!bytes.empty()) {
    const ssize_t put = ::write(descriptor, bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return system_error(name, "cannot be copied to a temporary file", errno);
    bytes.remove_prefix(static_cast<std::size_t>(put));
  }
  return {};
}

// Waits for input, which a terminal may never send, unless the user interrupts it.
Result<void> wait_for_input(int descriptor, std::string_view name) {
  constexpr int kLookAroundMs = 100;
  for (;;) {
    if (interrupted()) return Error{ErrorCode::cancelled, fmt::format("{}: interrupted", name)};
    struct pollfd input = {descriptor, POLLIN, 0};
    if (::poll(&input, 1, kLookAroundMs) > 0) return {};
  }
}

// A copy of what the descriptor still has, in a file that ends with its descriptor.
Result<int> spool(int from, std::string_view name) {
  std::FILE* const file = std::tmpfile();
  if (file == nullptr) return system_error(name, "no temporary file for a copy", errno);
  const int copy = ::fcntl(::fileno(file), F_DUPFD_CLOEXEC, 0);
  const int cause = errno;
  std::fclose(file);
  if (copy < 0) return system_error(name, "no temporary file for a copy", cause);
  std::array<char, std::size_t{64} << 10> piece;
  Result<void> done;
  for (;;) {
    done = wait_for_input(from, name);
    if (!done) break;
    const ssize_t got = read_some(from, piece.data(), piece.size());
    if (got < 0) done = system_error(name, "cannot be read", errno);
    if (got > 0) done = write_all(copy, {piece.data(), static_cast<std::size_t>(got)}, name);
    if (got <= 0 || !done) break;
  }
  if (done) return copy;
  ::close(copy);
  return done.error();
}

bool is_blank(std::string_view text) {
  return text.find_first_not_of(" \t\r") == std::string_view::npos;
}

std::int64_t nanoseconds(const struct timespec& time) {
  return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

// One spelling of each path, as far as that needs no look at the disk: a list may have millions.
std::string spelled(const fs::path& path) {
  if (is_url(path.native())) return path.native();
  std::error_code failed;
  std::string text = fs::absolute(path, failed).lexically_normal().native();
  while (text.size() > 1 && text.ends_with('/')) text.pop_back();
  return text;
}

struct Named {
  TextHash hash;
  std::uint64_t line = 0;
  [[nodiscard]] friend auto operator<=>(const Named&, const Named&) = default;
};

void add_names(const JobText& job, std::uint64_t line, const ConvertOptions& options,
               std::pair<std::vector<Named>&, std::vector<Named>&> named) {
  named.first.push_back({hash_of(spelled(job.input)), line});
  ConvertOptions own;
  own.paths = {job.input};
  own.output = job.output;
  own.out_dir = options.out_dir;
  own.sidecar = options.sidecar || job.has_flag("sidecar");
  const Result<fs::path> output = planned_output(own);
  if (!output) return;
  named.second.push_back({hash_of(spelled(*output)), line});
  // The usual name of the file in a folder for a new set; others are known when the input is open.
  const bool is_set = options.max_shard_nbytes != 0 || job.has_option("max-shard-size");
  if (is_set && may_name_folder(*output))
    named.second.push_back({hash_of(spelled(*output / "model.safetensors")), line});
}

std::vector<JobClash> find_clashes(std::vector<Named> inputs, std::vector<Named> outputs) {
  std::ranges::sort(inputs);
  std::ranges::sort(outputs);
  std::vector<JobClash> clashes;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    const Named& output = outputs[i];
    const auto input = std::ranges::lower_bound(inputs, output.hash, {}, &Named::hash);
    const bool after = i > 0 && outputs[i - 1].hash == output.hash;
    const bool before = i + 1 < outputs.size() && outputs[i + 1].hash == output.hash;
    if (after || before) {
      clashes.push_back({output.line, outputs[after ? i - 1 : i + 1].line, false});
    } else if (input != inputs.end() && input->hash == output.hash && input->line != output.line) {
      clashes.push_back({output.line, input->line, true});
    }
  }
  std::ranges::sort(clashes, {}, &JobClash::line);
  return clashes;
}

}  // namespace

Result<JobList> JobList::open(const fs::path& path) {
  const bool is_stdin = path == "-";
  std::string name = is_stdin ? "standard input" : path_text(path);
  int descriptor = is_stdin ? ::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0)
                            : ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return system_error(name, "cannot be opened", errno);
  JobList list(std::move(name), descriptor);
  struct stat status = {};
  if (::fstat(descriptor, &status) != 0) return system_error(list.name_, "cannot be read", errno);
  if (S_ISDIR(status.st_mode)) return system_error(list.name_, "cannot be read", EISDIR);
  if (!S_ISREG(status.st_mode) || is_stdin) {
    FLATBED_ASSIGN(const int copy, spool(descriptor, list.name_));
    ::close(std::exchange(list.descriptor_, copy));
    if (::fstat(copy, &status) != 0) return system_error(list.name_, "cannot be read", errno);
  }
  list.nbytes_ = status.st_size;
  list.changed_ = nanoseconds(status.st_mtim);
  return list;
}

JobList::JobList(JobList&& other) noexcept
    : name_(std::move(other.name_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      nbytes_(other.nbytes_),
      changed_(other.changed_),
      offset_(other.offset_),
      buffer_(std::move(other.buffer_)),
      at_(other.at_),
      lines_(other.lines_),
      jobs_(other.jobs_) {}

JobList::~JobList() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void JobList::rewind() noexcept {
  buffer_.clear();
  offset_ = 0;
  at_ = 0;
  lines_ = jobs_ = 0;
}

Result<std::optional<JobLine>> JobList::next(const PartChoice& part) {
  for (;;) {
    FLATBED_ASSIGN(std::optional<JobLine> line, next_line());
    if (!line) {
      FLATBED_TRY(check_unchanged());
      return line;
    }
    if (!line->too_long && is_blank(line->text)) continue;
    if (jobs_++ % part.count == part.index) return line;
  }
}

Result<JobLine> JobList::at(std::uint64_t number, std::int64_t offset) {
  rewind();
  offset_ = offset;
  FLATBED_ASSIGN(std::optional<JobLine> line, next_line());
  if (!line) return Error{ErrorCode::file_changed, fmt::format("{}: has become shorter", name_)};
  line->number = number;
  return *std::move(line);
}

Result<std::optional<JobLine>> JobList::next_line() {
  JobLine line;
  line.offset = offset_ - static_cast<std::int64_t>(buffer_.size() - at_);
  for (bool any = false;; any = true) {
    if (at_ == buffer_.size()) {
      FLATBED_ASSIGN(const bool more, fill());
      if (!more && !any) return std::optional<JobLine>();
      if (!more) break;
    }
    const std::string_view rest = std::string_view(buffer_).substr(at_);
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    const std::size_t room = kMaxJobNbytes - line.text.size();
    line.text += rest.substr(0, std::min(end, room));
    line.too_long = line.too_long || end > room;
    at_ += end;
    if (at_ == buffer_.size()) continue;
    ++at_;  // the line's end
    break;
  }
  line.number = ++lines_;
  return std::optional(std::move(line));
}

Result<bool> JobList::fill() {
  buffer_.resize(kPieceNbytes);
  ssize_t got = 0;
  do {
    got = ::pread(descriptor_, buffer_.data(), buffer_.size(), offset_);
  } while (got < 0 && errno == EINTR);
  const int cause = errno;
  buffer_.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  at_ = 0;
  if (got < 0) return system_error(name_, "cannot be read", cause);
  offset_ += got;
  return got > 0;
}

Result<void> JobList::check_unchanged() const {
  struct stat status = {};
  if (::fstat(descriptor_, &status) != 0) return system_error(name_, "cannot be read", errno);
  if (status.st_size == nbytes_ && nanoseconds(status.st_mtim) == changed_) return {};
  return Error{ErrorCode::file_changed, fmt::format("{}: changed while its jobs were done", name_)};
}

const JobClash* JobListCheck::find(std::uint64_t line) const {
  const auto clash = std::ranges::lower_bound(clashes, line, {}, &JobClash::line);
  return clash != clashes.end() && clash->line == line ? &*clash : nullptr;
}

Result<JobListCheck> check_list(JobList& list, const ConvertOptions& options) {
  JobListCheck check;
  JobParser parser;
  std::vector<Named> inputs, outputs;
  std::uint64_t count = 0;
  for (;; ++count) {
    FLATBED_ASSIGN(const std::optional<JobLine> line, list.next({}));
    if (!line) break;
    if (count % options.part.count == options.part.index) ++check.jobs;
    if (line->too_long) continue;
    const Result<JobText> job = parser.parse(line->text);
    if (job) add_names(*job, line->number, options, {inputs, outputs});
  }
  check.clashes = find_clashes(std::move(inputs), std::move(outputs));
  list.rewind();
  return check;
}

}  // namespace flatbed::tool
