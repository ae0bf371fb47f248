#include "io/atomic_file.hpp"

#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <utility>

#include "base/str_cat.hpp"
#include "io/leftover.hpp"
#include "io/system_error.hpp"

namespace flatbed {

namespace {

constexpr std::size_t kMaxBytesPerCall = std::size_t{1} << 30;
constexpr int kMaxNamesTried = 8;

bool is_unsupported(int error_number) noexcept {
  return error_number == EINVAL || error_number == ENOSYS || error_number == EOPNOTSUPP;
}

// The target must not exist, be a regular file, or a link that leads to one or to nothing.
Result<void> check_target(const std::filesystem::path& target, bool replace,
                          std::string_view place) {
  struct stat status = {};
  // If something is wrong, create() will find it.
  if (::lstat(target.c_str(), &status) != 0) return {};
  const bool leads_nowhere = S_ISLNK(status.st_mode) && ::stat(target.c_str(), &status) != 0;
  if (!leads_nowhere && !S_ISREG(status.st_mode)) {
    return make_error(ErrorCode::not_a_regular_file, place, ": is ",
                      S_ISDIR(status.st_mode) ? "a directory" : "not a regular file",
                      ", which cannot be replaced by a file");
  }
  if (!replace) {
    return make_error(ErrorCode::file_exists, place, ": already exists");
  }
  return {};
}

int open_at(int directory, const char* name, int flags, mode_t mode = 0) noexcept {
  int descriptor = -1;
  do {
    descriptor = ::openat(directory, name, flags | O_CLOEXEC, mode);
  } while (descriptor < 0 && errno == EINTR);
  return descriptor;
}

// What a group that is not the one in `permissions` may do: no more than everybody.
mode_t bits_for_other_group(mode_t bits) noexcept {
  return bits & (~mode_t{S_IRWXG} | (bits & S_IRWXO) << 3);
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

}  // namespace

AtomicFile::AtomicFile(std::filesystem::path target, const AtomicFileOptions& options)
    : target_(std::move(target)),
      options_(options),
      name_(target_.filename().native()),
      place_(quoted(options.shown.empty() ? target_.native() : options.shown.native())) {}

AtomicFile::~AtomicFile() = default;

AtomicFile::TemporaryName& AtomicFile::TemporaryName::operator=(TemporaryName&& other) noexcept {
  std::swap(directory_, other.directory_);
  std::swap(name_, other.name_);
  return *this;
}

AtomicFile::TemporaryName::~TemporaryName() {
  if (!name_.empty()) ::unlinkat(directory_, name_.c_str(), 0);
}

Result<AtomicFile> AtomicFile::create(const std::filesystem::path& target, std::uint64_t nbytes,
                                      const AtomicFileOptions& options) {
  AtomicFile file(target, options);
  FLATBED_TRY(check_target(target, options.replace, file.place_));
  if (file.name_.empty())
    return make_error(ErrorCode::invalid_argument, file.place_, ": is not the name of a file");
  FLATBED_TRY(check_size_limit(nbytes, file.place_));
  FLATBED_TRY(file.open_directory());
  FLATBED_TRY(file.look_at_old());
  // First, because they may fill the disk.
  if (!options.in_new_folder) remove_leftovers(file.directory_.get());
  FLATBED_TRY(file.create_file());
  FLATBED_TRY(file.set_permissions());
  FLATBED_TRY(file.reserve(nbytes));
  return file;
}

Result<void> AtomicFile::open_directory() {
  const std::filesystem::path parent = target_.has_parent_path() ? target_.parent_path() : ".";
  directory_ = Descriptor(open_at(AT_FDCWD, parent.c_str(), O_RDONLY | O_DIRECTORY));
  if (directory_.get() >= 0) return {};
  const int failed = errno;
  const std::filesystem::path shown =
      options_.shown.empty() ? parent : options_.shown.parent_path();
  return system_error(failed, str_cat("cannot open directory ", quoted(shown.native())));
}

Result<void> AtomicFile::look_at_old() {
  struct stat old = {};
  if (::fstatat(directory_.get(), name_.c_str(), &old, AT_SYMLINK_NOFOLLOW) != 0) {
    if (errno == ENOENT) return {};
    return system_error(errno, str_cat("cannot write ", place_));
  }
  if (S_ISREG(old.st_mode)) old_ = old;
  return {};
}

Result<void> AtomicFile::create_file() {
  // Until set_permissions(), nobody else may open a file that will not be open to everybody.
  const mode_t mode = options_.permissions || old_ ? 0600 : 0666;
  if (create_unnamed(mode)) return {};
  const int failed = create_named(mode);
  if (failed == 0) return {};
  return system_error(failed, str_cat("cannot write ", place_));
}

// False where the file system has no such files, or where they cannot be linked.
bool AtomicFile::create_unnamed(mode_t mode) {
  descriptor_ = Descriptor(open_at(directory_.get(), ".", O_TMPFILE | O_WRONLY, mode));
  if (descriptor_.get() < 0) return false;
  // Nothing can be linked to ".", so the attempt fails, but only after the file was accepted.
  if (link_as(".") == EEXIST) return lock_temporary(descriptor_.get());
  descriptor_ = Descriptor();
  return false;
}

// Returns an errno, or 0.
int AtomicFile::create_named(mode_t mode) {
  for (int i = 0; i < kMaxNamesTried; ++i) {
    std::string name = temporary_name(name_);
    descriptor_ = Descriptor(
        open_at(directory_.get(), name.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW, mode));
    if (descriptor_.get() < 0) return errno;
    temporary_ = TemporaryName(directory_.get(), std::move(name));
    // Before the lock, another process may have taken the file for a leftover.
    struct stat status = {};
    const bool locked = lock_temporary(descriptor_.get());
    if (::fstat(descriptor_.get(), &status) != 0) return errno;
    if (locked && status.st_nlink != 0) return 0;
  }
  return EAGAIN;
}

// Where something is refused, the file is still good, and no more open than it should be.
Result<void> AtomicFile::set_permissions() {
  struct stat status = {};
  const int file = descriptor_.get();
  if (::fstat(file, &status) != 0) return system_error(errno, place_);
  inode_ = status.st_ino;
  if (!options_.permissions && !old_) return {};
  FilePermissions wanted;
  if (options_.permissions) {
    wanted = *options_.permissions;
  } else {
    wanted = {old_->st_mode, old_->st_gid};
    static_cast<void>(!::fchown(file, old_->st_uid, static_cast<gid_t>(-1)));
  }
  mode_t bits = wanted.bits & kPermissionBits;
  const bool group_is_kept =
      wanted.group && (*wanted.group == status.st_gid ||
                       ::fchown(file, static_cast<uid_t>(-1), *wanted.group) == 0);
  if (!group_is_kept) bits = bits_for_other_group(bits);
  static_cast<void>(!::fchmod(file, bits));
  return {};
}

Result<void> AtomicFile::reserve(std::uint64_t nbytes) {
  if (nbytes == 0) return {};
  int failed = 0;
  do {
    failed = ::fallocate(descriptor_.get(), 0, 0, static_cast<off_t>(nbytes)) == 0 ? 0 : errno;
  } while (failed == EINTR);
  if (failed == 0 || is_unsupported(failed)) return {};  // not every file system can reserve
  return system_error(failed, str_cat(place_, ": cannot reserve ", nbytes, " bytes"));
}

Result<void> AtomicFile::write_at(std::uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const std::size_t wanted = std::min(bytes.size(), kMaxBytesPerCall);
    const ssize_t put =
        ::pwrite(descriptor_.get(), bytes.data(), wanted, static_cast<off_t>(offset));
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) {  // 0: nothing says why, and trying again could go on for ever
      return system_error(put == 0 ? EIO : errno, str_cat(place_, ": cannot write ", bytes.size(),
                                                          " bytes at offset ", offset));
    }
    bytes = bytes.subspan(static_cast<std::size_t>(put));
    offset += static_cast<std::uint64_t>(put);
  }
  return {};
}

void AtomicFile::start_writeback(std::uint64_t offset, std::uint64_t nbytes) noexcept {
  ::sync_file_range(descriptor_.get(), static_cast<off_t>(offset), static_cast<off_t>(nbytes),
                    SYNC_FILE_RANGE_WRITE);
}

Result<CommitReport> AtomicFile::commit() {
  CommitReport report;
  FLATBED_TRY(sync_file(report));
  FLATBED_TRY(report_late_errors());
  FLATBED_TRY(give_name());
  if (options_.sync && !options_.in_new_folder && ::fsync(directory_.get()) != 0) {
    report.note = system_error(errno, "cannot sync the directory").message;
  }
  return report;
}

Result<void> AtomicFile::sync_file(CommitReport& report) {
  if (!options_.sync) {
    report.note = "not synced, as requested";
  } else if (::fsync(descriptor_.get()) != 0) {
    if (!is_unsupported(errno)) {
      return system_error(errno, str_cat(place_, ": cannot sync the new file"));
    }
    report.note = system_error(errno, "the file system cannot sync a file").message;
  }
  return {};
}

// Network file systems report what they could not write when a descriptor is closed. This closes a
// second one, because the first has the lock. EINTR means closed on Linux.
Result<void> AtomicFile::report_late_errors() {
  const int copy = ::fcntl(descriptor_.get(), F_DUPFD_CLOEXEC, 0);
  if (copy >= 0 && (::close(copy) == 0 || errno == EINTR)) return {};
  return system_error(errno, str_cat(place_, ": cannot close the new file"));
}

Result<void> AtomicFile::give_name() {
  const int failed = name_errno();
  // A server may have changed the name and lost its answer.
  if (failed == 0 || target_is_ours()) return {};
  if (failed == EEXIST) {
    return make_error(ErrorCode::file_exists, place_, ": already exists");
  }
  if (failed == EISDIR || failed == ENOTEMPTY) {
    return make_error(ErrorCode::not_a_regular_file, place_, ": is now a directory");
  }
  Error error = system_error(failed, str_cat(place_, ": cannot give the complete file this name"));
  if (is_unsupported(failed) || failed == EXDEV) error.code = ErrorCode::unsupported_filesystem;
  return error;
}

int AtomicFile::name_errno() {
  if (!temporary_.empty()) return rename_errno();
  const int failed = link_as(name_.c_str());
  if (failed != EEXIST || !options_.replace) return failed;
  std::string name = temporary_name(name_);
  const int refused = link_as(name.c_str());
  if (refused != 0) return refused;
  temporary_ = TemporaryName(directory_.get(), std::move(name));
  return rename_errno();
}

// The first way takes a privilege before Linux 6.10, the second takes /proc.
int AtomicFile::link_as(const char* name) const {
  const int file = descriptor_.get();
  const int directory = directory_.get();
  if (::linkat(file, "", directory, name, AT_EMPTY_PATH) == 0) return 0;
  if (errno == EEXIST) return EEXIST;
  const std::string link = str_cat("/proc/self/fd/", file);
  return ::linkat(AT_FDCWD, link.c_str(), directory, name, AT_SYMLINK_FOLLOW) == 0 ? 0 : errno;
}

int AtomicFile::rename_errno() {
  const int directory = directory_.get();
  const char* from = temporary_.get();
  const char* to = name_.c_str();
  const bool renamed = options_.replace
                           ? ::renameat(directory, from, directory, to) == 0
                           : ::renameat2(directory, from, directory, to, RENAME_NOREPLACE) == 0;
  if (renamed) {
    temporary_.forget();
    return 0;
  }
  if (options_.replace || !is_unsupported(errno)) return errno;
  // The next best operation that fails if a file exists: a second name. The first goes at the end.
  if (::linkat(directory, from, directory, to, 0) == 0) return 0;
  return errno == EPERM ? EOPNOTSUPP : errno;
}

bool AtomicFile::target_is_ours() const {
  struct stat status = {};
  return ::fstatat(directory_.get(), name_.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0 &&
         status.st_ino == inode_;
}

}  // namespace flatbed
