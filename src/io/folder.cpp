#include "io/folder.hpp"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/str_cat.hpp"
#include "io/leftover.hpp"
#include "io/set_files.hpp"
#include "io/system_error.hpp"

namespace flatbed {

namespace {

constexpr int kOpenFolder = O_RDONLY | O_DIRECTORY | O_CLOEXEC;

Descriptor open_at(int folder, const char* name, int flags) noexcept {
  int descriptor = -1;
  do {
    descriptor = ::openat(folder, name, flags);
  } while (descriptor < 0 && errno == EINTR);
  return Descriptor(descriptor);
}

Error open_error(int error_number, const std::filesystem::path& path) {
  if (error_number == ENOTDIR || error_number == ELOOP) {
    return make_error(ErrorCode::not_a_regular_file, quoted(path.native()), ": is not a folder");
  }
  return system_error(error_number, str_cat("cannot open the folder ", quoted(path.native())));
}

bool is_unsupported(int error_number) noexcept {
  return error_number == EINVAL || error_number == ENOSYS || error_number == EOPNOTSUPP;
}

}  // namespace

Result<Folder> Folder::open(const std::filesystem::path& path) {
  Descriptor folder = open_at(AT_FDCWD, path.c_str(), kOpenFolder);
  if (folder.get() < 0) return open_error(errno, path);
  return Folder(path, std::move(folder));
}

Result<Folder> Folder::make(const std::filesystem::path& path) {
  if (::mkdir(path.c_str(), 0777) != 0 && errno != EEXIST) {
    const int failed = errno;
    Result<Folder> there = open(path);  // in a folder that cannot be written to
    if (there) return there;
    return system_error(failed, str_cat("cannot make the folder ", quoted(path.native())));
  }
  return open(path);
}

Result<Folder> Folder::make_inside(const std::string& name) const {
  const int above = descriptor_.get();
  if (::mkdirat(above, name.c_str(), 0777) != 0 && errno != EEXIST)
    return error(errno, "cannot make the folder ", name);
  Descriptor folder = open_at(above, name.c_str(), kOpenFolder | O_NOFOLLOW);
  if (folder.get() < 0) return open_error(errno, path_ / name);
  return Folder(path_ / name, std::move(folder));
}

Error Folder::error(int error_number, const std::string& what, const std::string& name) const {
  return system_error(error_number, str_cat(what, quoted((path_ / name).native())));
}

bool Folder::lock() noexcept { return lock_temporary(descriptor_.get()); }

Result<void> Folder::sync() const {
  if (::fsync(descriptor_.get()) == 0) return {};
  return system_error(errno, str_cat("cannot sync the folder ", quoted(path_.native())));
}

Result<void> Folder::sync_above() const {
  const Descriptor above = open_at(descriptor_.get(), "..", kOpenFolder);
  if (above.get() >= 0 && ::fsync(above.get()) == 0) return {};
  return system_error(errno, str_cat("cannot sync the folder above ", quoted(path_.native())));
}

Result<void> Folder::move(const std::string& name, const Folder& to,
                          const std::string& new_name) const {
  const int failed = move_errno(name.c_str(), to, new_name.c_str());
  if (failed == 0) return {};
  const std::string target = quoted((to.path_ / new_name).native());
  if (failed == EEXIST || failed == ENOTEMPTY)
    return make_error(ErrorCode::file_exists, target, ": already exists");
  Error wrong = error(failed, "cannot move ", name);
  if (failed == EXDEV) {
    wrong = make_error(ErrorCode::unsupported_filesystem, "cannot move ",
                       quoted((path_ / name).native()), " to ", target,
                       ": they are on different file systems");
  }
  return wrong;
}

int Folder::move_errno(const char* name, const Folder& to, const char* new_name) const {
  const int from = descriptor_.get();
  const int target = to.descriptor_.get();
  if (::renameat2(from, name, target, new_name, RENAME_NOREPLACE) == 0) return 0;
  if (!is_unsupported(errno)) return errno;
  // The next best operations that replace nothing: a second name for a file, and for a folder a
  // rename, which only an empty folder of that name would not refuse.
  struct stat status = {};
  if (::fstatat(target, new_name, &status, AT_SYMLINK_NOFOLLOW) == 0) return EEXIST;
  if (::fstatat(from, name, &status, AT_SYMLINK_NOFOLLOW) != 0) return errno;
  if (S_ISDIR(status.st_mode)) return ::renameat(from, name, target, new_name) == 0 ? 0 : errno;
  if (::linkat(from, name, target, new_name, 0) != 0) return errno;
  return ::unlinkat(from, name, 0) == 0 ? 0 : errno;
}

Result<void> Folder::remove_file(const std::string& name) const {
  if (::unlinkat(descriptor_.get(), name.c_str(), 0) == 0) return {};
  return error(errno, "cannot remove ", name);
}

Result<void> Folder::remove_set(const std::string& name) const {
  const int parent = descriptor_.get();
  const std::string place = quoted((path_ / name).native());
  const Descriptor set = open_at(parent, name.c_str(), kOpenFolder | O_NOFOLLOW);
  if (set.get() < 0) return open_error(errno, path_ / name);
  FLATBED_ASSIGN(const SetFolder found, look_into_folder(set.get(), place));
  if (!found.other.empty()) {
    return make_error(ErrorCode::file_exists, place, ": holds ", quoted(found.other),
                      ", and only a folder with nothing but a set is removed");
  }
  if (::faccessat(set.get(), ".", W_OK | X_OK, AT_EACCESS) != 0)
    return error(errno, "cannot remove ", name);
  const std::string temporary = temporary_name(name);
  static_cast<void>(lock_temporary(set.get()));
  if (::renameat(parent, name.c_str(), parent, temporary.c_str()) != 0)
    return error(errno, "cannot remove ", name);
  // First, because after a power failure the files could be gone and the name be back.
  static_cast<void>(::fsync(parent));
  if (remove_set_folder(parent, temporary.c_str(), set.get())) return {};
  return make_error(ErrorCode::io_error, place, ": could not be removed whole and is now ",
                    quoted((path_ / temporary).native()));
}

}  // namespace flatbed
