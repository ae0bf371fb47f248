#include "io/atomic_file.hpp"

#include <fcntl.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <system_error>
#include <utility>

#include "base/str_cat.hpp"
#include "io/system_error.hpp"

namespace flatbed {

namespace {

constexpr std::size_t kMaxBytesPerCall = std::size_t{1} << 30;
constexpr std::size_t kMaxNameInTemporary = 200;  // names have at most 255 bytes
constexpr int kMaxLinks = 40;                     // the kernel's limit

bool is_unsupported(int error_number) noexcept {
  return error_number == EINVAL || error_number == ENOSYS || error_number == EOPNOTSUPP;
}

// The file at `target`, after links are followed, must be a regular file or not exist.
Result<void> check_target(const std::filesystem::path& target, const AtomicFileOptions& options) {
  struct stat status = {};
  // If something is wrong, create() will find it.
  if (::stat(target.c_str(), &status) != 0) return {};
  const std::string place = quoted(target.native());
  if (!S_ISREG(status.st_mode)) {
    return make_error(ErrorCode::not_a_regular_file, place, ": is ",
                      S_ISDIR(status.st_mode) ? "a directory" : "not a regular file",
                      ", which cannot be replaced by a file");
  }
  if (!options.replace) {
    return make_error(ErrorCode::file_exists, place, ": already exists");
  }
  return {};
}

// The place that `target` leads to. Unlike canonical(), it also works if nothing is there yet.
Result<std::filesystem::path> resolve_links(const std::filesystem::path& target) {
  std::filesystem::path path = target;
  for (int links = 0; links < kMaxLinks; ++links) {
    std::error_code failure;
    if (!std::filesystem::is_symlink(path, failure)) return path;
    const std::filesystem::path link = std::filesystem::read_symlink(path, failure);
    if (failure) return system_error(failure.value(), quoted(path.native()));
    path = path.parent_path() / link;  // an absolute link replaces the whole path
  }
  return system_error(ELOOP, quoted(target.native()));
}

// fallocate() and write() past this limit would also raise SIGXFSZ, which ends the process.
Result<void> check_size_limit(std::uint64_t nbytes, std::string_view place) {
  struct rlimit limit = {};
  if (::getrlimit(RLIMIT_FSIZE, &limit) != 0) limit.rlim_cur = RLIM_INFINITY;
  constexpr std::uint64_t kMost = std::numeric_limits<off_t>::max();
  const std::uint64_t most = std::min<std::uint64_t>(kMost, limit.rlim_cur);
  if (nbytes <= most) return {};
  return make_error(ErrorCode::no_space, place, ": the file is too large for this process: found ",
                    nbytes, " bytes, the limit is ", most);
}

std::string random_name(std::string_view name) {
  std::uint64_t number[2] = {};
  // Cannot fail for so few bytes. If it did, O_EXCL would still keep two writers apart.
  static_cast<void>(::getrandom(number, sizeof number, 0));
  return str_cat('.', name.substr(0, kMaxNameInTemporary), '.', hex16(number[0]), hex16(number[1]),
                 ".tmp");
}

}  // namespace

AtomicFile::AtomicFile(std::filesystem::path target, const AtomicFileOptions& options)
    : target_(std::move(target)), options_(options), name_(target_.filename().native()) {}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : target_(std::move(other.target_)),
      options_(other.options_),
      name_(std::move(other.name_)),
      temporary_name_(std::exchange(other.temporary_name_, {})),
      inode_(other.inode_),
      directory_(std::exchange(other.directory_, -1)),
      descriptor_(std::exchange(other.descriptor_, -1)) {}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!temporary_name_.empty()) ::unlinkat(directory_, temporary_name_.c_str(), 0);
  if (directory_ >= 0) ::close(directory_);
}

Result<AtomicFile> AtomicFile::create(const std::filesystem::path& target, std::uint64_t nbytes,
                                      const AtomicFileOptions& options) {
  FLATBED_TRY(check_target(target, options));
  FLATBED_ASSIGN(std::filesystem::path resolved, resolve_links(target));
  AtomicFile file(std::move(resolved), options);
  if (file.name_.empty()) {
    return make_error(ErrorCode::invalid_argument, quoted(target.native()),
                      ": is not the name of a file");
  }
  FLATBED_TRY(check_size_limit(nbytes, quoted(file.target_.native())));
  FLATBED_TRY(file.open_directory());
  FLATBED_TRY(file.create_temporary());
  FLATBED_TRY(file.reserve(nbytes));
  return file;
}

Result<void> AtomicFile::open_directory() {
  const std::filesystem::path parent = target_.has_parent_path() ? target_.parent_path() : ".";
  directory_ = ::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory_ < 0)
    return system_error(errno, str_cat("cannot open directory ", quoted(parent.native())));
  return {};
}

Result<void> AtomicFile::create_temporary() {
  std::string name = random_name(name_);
  const int flags = O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC | O_NOFOLLOW;
  descriptor_ = ::openat(directory_, name.c_str(), flags, 0666);
  if (descriptor_ < 0) {
    return system_error(errno, str_cat("cannot write ", quoted(target_.native())));
  }
  temporary_name_ = std::move(name);

  struct stat status = {};
  if (::fstat(descriptor_, &status) != 0) return system_error(errno, quoted(target_.native()));
  inode_ = status.st_ino;
  struct stat old = {};
  if (::fstatat(directory_, name_.c_str(), &old, 0) != 0) return {};
  // The owner first, because changing it clears mode bits. If either is refused, the file is still
  // good.
  static_cast<void>(!::fchown(descriptor_, old.st_uid, old.st_gid));
  static_cast<void>(!::fchmod(descriptor_, old.st_mode & 07777));
  return {};
}

Result<void> AtomicFile::reserve(std::uint64_t nbytes) {
  if (nbytes == 0) return {};
  int failed = 0;
  do {
    failed = ::fallocate(descriptor_, 0, 0, static_cast<off_t>(nbytes)) == 0 ? 0 : errno;
  } while (failed == EINTR);
  if (failed == 0 || is_unsupported(failed)) return {};  // not every file system can reserve
  return system_error(failed,
                      str_cat(quoted(target_.native()), ": cannot reserve ", nbytes, " bytes"));
}

Result<void> AtomicFile::write_at(std::uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const std::size_t wanted = std::min(bytes.size(), kMaxBytesPerCall);
    const ssize_t put = ::pwrite(descriptor_, bytes.data(), wanted, static_cast<off_t>(offset));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) {
      return system_error(errno, str_cat(quoted(target_.native()), ": cannot write ", bytes.size(),
                                         " bytes at offset ", offset));
    }
    bytes = bytes.subspan(static_cast<std::size_t>(put));
    offset += static_cast<std::uint64_t>(put);
  }
  return {};
}

void AtomicFile::start_writeback(std::uint64_t offset, std::uint64_t nbytes) noexcept {
  ::sync_file_range(descriptor_, static_cast<off_t>(offset), static_cast<off_t>(nbytes),
                    SYNC_FILE_RANGE_WRITE);
}

Result<CommitReport> AtomicFile::commit() {
  CommitReport report;
  FLATBED_TRY(sync_and_close(report));
  FLATBED_TRY(rename_over_target());
  temporary_name_.clear();
  if (options_.sync && ::fsync(directory_) != 0) {
    report.note = system_error(errno, "cannot sync the directory").message;
  }
  return report;
}

Result<void> AtomicFile::sync_and_close(CommitReport& report) {
  if (!options_.sync) {
    report.note = "not synced, as requested";
  } else if (::fsync(descriptor_) != 0) {
    if (!is_unsupported(errno)) {
      return system_error(errno, str_cat(quoted(target_.native()), ": cannot sync the new file"));
    }
    report.note = system_error(errno, "the file system cannot sync a file").message;
  }
  // Network file systems report what they could not write here. EINTR means closed on Linux.
  if (::close(std::exchange(descriptor_, -1)) != 0 && errno != EINTR) {
    return system_error(errno, str_cat(quoted(target_.native()), ": cannot close the new file"));
  }
  return {};
}

Result<void> AtomicFile::rename_over_target() {
  const int failed = rename_errno();
  // A server may have renamed the file and lost its answer.
  if (failed == 0 || target_is_ours()) return {};
  const std::string place = quoted(target_.native());
  if (failed == EEXIST) {
    return make_error(ErrorCode::file_exists, place, ": already exists");
  }
  if (failed == EISDIR || failed == ENOTEMPTY) {
    return make_error(ErrorCode::not_a_regular_file, place, ": is now a directory");
  }
  Error error =
      system_error(failed, str_cat(place, ": cannot rename the complete file to this name"));
  if (is_unsupported(failed) || failed == EXDEV) error.code = ErrorCode::unsupported_filesystem;
  return error;
}

int AtomicFile::rename_errno() {
  const char* from = temporary_name_.c_str();
  const char* to = name_.c_str();
  if (options_.replace) return ::renameat(directory_, from, directory_, to) == 0 ? 0 : errno;
  if (::renameat2(directory_, from, directory_, to, RENAME_NOREPLACE) == 0) return 0;
  if (!is_unsupported(errno)) return errno;
  // The next best operation that fails if a file exists: link a second name, then remove the first.
  if (::linkat(directory_, from, directory_, to, 0) != 0)
    return errno == EPERM ? EOPNOTSUPP : errno;
  ::unlinkat(directory_, from, 0);
  return 0;
}

bool AtomicFile::target_is_ours() const {
  struct stat status = {};
  return ::fstatat(directory_, name_.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0 &&
         status.st_ino == inode_;
}

}  // namespace flatbed
