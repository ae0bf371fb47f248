#include "text_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>

#include "format_text.hpp"

namespace flatbed::tool {
namespace {

namespace fs = std::filesystem;

ErrorCode code_of(int cause) {
  switch (cause) {
    case ENOENT:
      return ErrorCode::file_not_found;
    case EACCES:
    case EPERM:
    case EROFS:
      return ErrorCode::permission_denied;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return ErrorCode::no_space;
    case EEXIST:
      return ErrorCode::file_exists;
    default:
      return ErrorCode::io_error;
  }
}

Error system_error(const fs::path& path, std::string_view what, int cause) {
  return {code_of(cause),
          fmt::format("{}: cannot {}: {}", path_text(path), what, std::strerror(cause))};
}

class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  [[nodiscard]] int get() const { return number_; }

 private:
  int number_;
};

bool holds(const fs::path& path, std::string_view text) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat status {};
  if (file.get() < 0 || ::fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode)) return false;
  if (static_cast<std::uint64_t>(status.st_size) != text.size()) return false;
  std::array<char, 65536> buffer;
  while (!text.empty()) {
    const ssize_t got = ::read(file.get(), buffer.data(), std::min(buffer.size(), text.size()));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    const auto nbytes = static_cast<std::size_t>(got);
    if (std::memcmp(buffer.data(), text.data(), nbytes) != 0) return false;
    text.remove_prefix(nbytes);
  }
  return true;
}

// 0, or the errno of what failed.
int write_all(int file, std::string_view text) {
  while (!text.empty()) {
    const ssize_t put = ::write(file, text.data(), text.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return errno;
    text.remove_prefix(static_cast<std::size_t>(put));
  }
  return ::fsync(file) == 0 || errno == EINVAL ? 0 : errno;
}

// The new file under a name of its own, which goes away with the object.
class Temporary {
 public:
  explicit Temporary(const fs::path& target)
      : path_(target.parent_path() / fmt::format(".flatbed-map.{}.tmp", ::getpid())) {}
  ~Temporary() { ::unlink(path_.c_str()); }
  Temporary(const Temporary&) = delete;
  Temporary& operator=(const Temporary&) = delete;

  [[nodiscard]] int write(std::string_view text) const {
    ::unlink(path_.c_str());  // what a killed process of this number left
    const Descriptor file(
        ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666));
    return file.get() < 0 ? errno : write_all(file.get(), text);
  }

  // Gives the file its name, if no other one has it.
  [[nodiscard]] int publish(const fs::path& target) const {
    if (::link(path_.c_str(), target.c_str()) == 0) return 0;
    if (errno != EPERM && errno != EOPNOTSUPP && errno != ENOSYS) return errno;
    // A file system without hard links.
    return ::renameat2(AT_FDCWD, path_.c_str(), AT_FDCWD, target.c_str(), RENAME_NOREPLACE) == 0
               ? 0
               : errno;
  }

  [[nodiscard]] int replace(const fs::path& target) const {
    return ::rename(path_.c_str(), target.c_str()) == 0 ? 0 : errno;
  }

 private:
  fs::path path_;
};

}  // namespace

Result<TextFileState> write_text_file(const fs::path& path, std::string_view text,
                                      Existing existing) {
  struct stat status {};
  const bool is_there = ::lstat(path.c_str(), &status) == 0;
  if (is_there && holds(path, text)) return TextFileState::up_to_date;
  if (is_there && !S_ISREG(status.st_mode) && !S_ISLNK(status.st_mode))
    return Error{ErrorCode::not_a_regular_file,
                 fmt::format("{}: is not a file; expected a name for one", path_text(path))};
  const Error other{ErrorCode::file_exists,
                    fmt::format("{} exists and is not what would be written; --force replaces it",
                                path_text(path))};
  if (is_there && existing == Existing::keep) return other;
  const Temporary made(path);
  if (const int cause = made.write(text); cause != 0) return system_error(path, "write", cause);
  const int cause = existing == Existing::replace ? made.replace(path) : made.publish(path);
  if (cause == EEXIST) return other;
  if (cause != 0) return system_error(path, "create", cause);
  return TextFileState::written;
}

}  // namespace flatbed::tool
