#include "io/atomic_folder.hpp"

#include <fcntl.h>
#include <stdio.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>

#include "base/str_cat.hpp"
#include "io/leftover.hpp"
#include "io/set_files.hpp"
#include "io/system_error.hpp"

namespace flatbed {

namespace {

constexpr int kMaxNamesTried = 8;
constexpr int kOpenFolder = O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW;

bool is_unsupported(int error_number) noexcept {
  return error_number == EINVAL || error_number == ENOSYS || error_number == EOPNOTSUPP;
}

// "a/b/" is "a/b".
std::filesystem::path without_last_slash(const std::filesystem::path& path) {
  return path.has_filename() ? path : path.parent_path();
}

std::filesystem::path parent_of(const std::filesystem::path& path) {
  return path.has_parent_path() ? path.parent_path() : ".";
}

}  // namespace

AtomicFolder::AtomicFolder(std::filesystem::path target, const AtomicFolderOptions& options)
    : target_(std::move(target)), options_(options), name_(target_.filename().native()) {}

AtomicFolder::Temporary::~Temporary() {
  if (!name.empty()) remove_set_folder(parent, name.c_str(), folder.get());
}

Result<AtomicFolder> AtomicFolder::create(const std::filesystem::path& target,
                                          const AtomicFolderOptions& options) {
  AtomicFolder folder(without_last_slash(target), options);
  if (folder.name_.empty() || folder.name_ == "." || folder.name_ == "..") {
    return make_error(ErrorCode::invalid_argument, quoted(target.native()),
                      ": is not the name of a new folder");
  }
  const std::filesystem::path parent = parent_of(folder.target_);
  folder.parent_ = Descriptor(::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder.parent_.get() < 0)
    return system_error(errno, str_cat("cannot open directory ", quoted(parent.native())));
  FLATBED_TRY(folder.look_at_old());
  remove_leftovers(folder.parent_.get());
  FLATBED_TRY(folder.check_room());
  FLATBED_TRY(folder.make_temporary(folder.temporary_));
  folder.set_permissions();
  if (folder.replaces_) FLATBED_TRY(folder.try_to_swap());
  folder.path_ = parent_of(folder.target_) / folder.temporary_.name;
  return folder;
}

Result<void> AtomicFolder::look_at_old() {
  const std::string place = quoted(target_.native());
  old_ = Descriptor(::openat(parent_.get(), name_.c_str(), kOpenFolder));
  if (old_.get() < 0) {
    if (errno == ENOENT) return {};
    if (errno == ENOTDIR || errno == ELOOP) {
      return make_error(ErrorCode::file_exists, place,
                        ": is a file or a link, which cannot be replaced by a folder");
    }
    return system_error(errno, str_cat("cannot write ", place));
  }
  struct stat parent = {};
  struct stat old = {};
  const bool known = ::fstat(parent_.get(), &parent) == 0 && ::fstat(old_.get(), &old) == 0;
  if (known && parent.st_dev != old.st_dev) {
    return make_error(ErrorCode::unsupported_filesystem, place,
                      ": is where a file system is mounted, which cannot be renamed; name a new "
                      "folder in it");
  }
  remove_leftovers(old_.get());
  FLATBED_ASSIGN(const SetFolder found, look_into_folder(old_.get(), place));
  if (found.empty) return {};
  if (!options_.replace)
    return make_error(ErrorCode::file_exists, place, ": already exists and is not empty");
  if (!found.other.empty()) {
    const bool named_as_set = is_set_file_name(found.other);
    return make_error(ErrorCode::file_exists, place, ": holds ", quoted(found.other),
                      named_as_set ? ", which is no regular file" : "",
                      ", and only a folder with nothing but a set can be replaced");
  }
  replaces_ = true;
  return {};
}

Result<void> AtomicFolder::check_room() const {
  struct statvfs status = {};
  // Some file systems know nothing about their size.
  if (::fstatvfs(parent_.get(), &status) != 0 || status.f_blocks == 0) return {};
  const std::uint64_t block = status.f_frsize == 0 ? status.f_bsize : status.f_frsize;
  if (block == 0 || options_.nbytes / block <= status.f_bavail) return {};
  return make_error(ErrorCode::no_space, quoted(target_.native()), ": needs ",
                    size_text(options_.nbytes), ", and the file system has ",
                    size_text(status.f_bavail * block), " left");
}

Result<void> AtomicFolder::make_temporary(Temporary& made) const {
  made.parent = parent_.get();
  int failed = EAGAIN;
  for (int i = 0; i < kMaxNamesTried && failed == EAGAIN; ++i) failed = try_to_make(made);
  if (failed == 0) return {};
  return system_error(failed, str_cat("cannot write ", quoted(target_.native())));
}

// Returns an errno, or 0. EAGAIN: before the lock, another process took it for a leftover.
int AtomicFolder::try_to_make(Temporary& made) const {
  std::string name = temporary_name(name_);
  const mode_t mode = old_.get() < 0 ? 0777 : 0700;
  if (::mkdirat(parent_.get(), name.c_str(), mode) != 0) return errno;
  made.folder = Descriptor(::openat(parent_.get(), name.c_str(), kOpenFolder));
  if (made.folder.get() < 0) {
    const int failed = errno;
    ::unlinkat(parent_.get(), name.c_str(), AT_REMOVEDIR);
    return failed == ENOENT ? EAGAIN : failed;
  }
  const bool locked = lock_temporary(made.folder.get());
  if (!locked || !is_at(name, made.folder.get())) return EAGAIN;
  made.name = std::move(name);
  return 0;
}

// Those of the folder that it replaces. Where something is refused, it is no more open than it
// should be.
void AtomicFolder::set_permissions() noexcept {
  struct stat old = {};
  if (old_.get() < 0 || ::fstat(old_.get(), &old) != 0) return;
  const int folder = temporary_.folder.get();
  static_cast<void>(!::fchown(folder, old.st_uid, static_cast<gid_t>(-1)));
  const bool group_is_kept = ::fchown(folder, static_cast<uid_t>(-1), old.st_gid) == 0;
  const mode_t bits = old.st_mode & (group_is_kept ? 07777 : 0707);
  static_cast<void>(!::fchmod(folder, bits));
}

// Finds out before anything is written, with an empty folder, whether two can be swapped. It is
// locked too: whoever takes one of the names for a leftover must not remove what has it after that.
Result<void> AtomicFolder::try_to_swap() {
  Temporary empty;
  FLATBED_TRY(make_temporary(empty));
  const int parent = parent_.get();
  const bool swapped = ::renameat2(parent, temporary_.name.c_str(), parent, empty.name.c_str(),
                                   RENAME_EXCHANGE) == 0;
  const int failed = errno;
  if (swapped || is_at(empty.name, temporary_.folder.get())) {
    std::swap(temporary_.name, empty.name);
    return {};
  }
  return swap_error(failed);
}

Error AtomicFolder::swap_error(int failed) const {
  const std::string place = quoted(target_.native());
  if (is_unsupported(failed) || failed == EXDEV) {
    return make_error(ErrorCode::unsupported_filesystem, place,
                      ": cannot be replaced, because its file system cannot swap two folders; "
                      "write to a new folder");
  }
  return system_error(failed, str_cat(place, ": cannot swap the new folder with the old one"));
}

std::optional<FilePermissions> AtomicFolder::old_permissions() const noexcept {
  return replaces_ ? common_permissions(old_.get()) : std::nullopt;
}

Result<FolderReport> AtomicFolder::commit() {
  FolderReport report;
  FLATBED_TRY(sync_folder(report.commit));
  FLATBED_TRY(give_name());
  if (options_.sync && ::fsync(parent_.get()) != 0) {
    report.commit.note = system_error(errno, "cannot sync the directory").message;
  }
  if (replaces_) remove_old(report);
  return report;
}

Result<void> AtomicFolder::sync_folder(CommitReport& report) const {
  if (!options_.sync) {
    report.note = "not synced, as requested";
  } else if (::fsync(temporary_.folder.get()) != 0) {
    if (!is_unsupported(errno))
      return system_error(errno, str_cat(quoted(target_.native()), ": cannot sync the new folder"));
    report.note = system_error(errno, "the file system cannot sync a folder").message;
  }
  return {};
}

Result<void> AtomicFolder::give_name() {
  if (replaces_) return swap_with_old();
  const int parent = parent_.get();
  const bool renamed = ::renameat(parent, temporary_.name.c_str(), parent, name_.c_str()) == 0;
  const int failed = errno;
  // A server may have changed the name and lost its answer.
  if (renamed || is_at(name_, temporary_.folder.get())) {
    temporary_.name.clear();
    return {};
  }
  const std::string place = quoted(target_.native());
  if (failed == EEXIST || failed == ENOTEMPTY || failed == ENOTDIR)
    return make_error(ErrorCode::file_exists, place, ": exists now");
  return system_error(failed, str_cat(place, ": cannot give the complete folder this name"));
}

Result<void> AtomicFolder::swap_with_old() {
  const Error other =
      make_error(ErrorCode::file_exists, quoted(target_.native()), ": is another folder now");
  const int parent = parent_.get();
  const char* const ours = temporary_.name.c_str();
  if (!is_at(name_, old_.get())) return other;
  // With the temporary name and a free lock it would be a leftover, before the parent is synced.
  static_cast<void>(lock_temporary(old_.get()));
  const bool swapped = ::renameat2(parent, ours, parent, name_.c_str(), RENAME_EXCHANGE) == 0;
  const int failed = errno;
  if (!swapped && !is_at(name_, temporary_.folder.get())) return swap_error(failed);
  if (!is_at(temporary_.name, old_.get())) {  // somebody was faster
    static_cast<void>(::renameat2(parent, ours, parent, name_.c_str(), RENAME_EXCHANGE));
    return other;
  }
  temporary_.folder = std::move(old_);  // which now has the temporary name
  return {};
}

// Its files are needed for as long as a power failure could bring it back.
void AtomicFolder::remove_old(FolderReport& report) {
  const bool may_come_back = options_.sync && !report.commit.durable();
  const bool removed = !may_come_back && remove_set_folder(parent_.get(), temporary_.name.c_str(),
                                                           temporary_.folder.get());
  if (!removed) report.old = path_;
  temporary_.name.clear();
}

bool AtomicFolder::is_at(const std::string& name, int folder) const {
  struct stat named = {};
  struct stat opened = {};
  return ::fstatat(parent_.get(), name.c_str(), &named, AT_SYMLINK_NOFOLLOW) == 0 &&
         ::fstat(folder, &opened) == 0 && named.st_ino == opened.st_ino &&
         named.st_dev == opened.st_dev;
}

}  // namespace flatbed
