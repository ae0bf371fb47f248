#include "io/file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/checked.hpp"
#include "base/str_cat.hpp"
#include "io/system_error.hpp"

namespace flatbed {

namespace {

// The kernel caps one call at 2 GiB less a page.
constexpr std::size_t kMaxBytesPerCall = std::size_t{1} << 30;

std::int64_t modified_ns_of(const struct stat& status) noexcept {
  return std::int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec;
}

Error open_error(int error_number, const std::filesystem::path& path, const FileOptions& options) {
  const std::string place = quoted(path.native());
  if (error_number == ELOOP && !options.follow_links) {
    return make_error(ErrorCode::shard_link_refused, place,
                      ": is a symbolic link, and links are not allowed");
  }
  if (error_number == ENXIO || error_number == ENODEV) {  // a socket, or a device without driver
    return make_error(ErrorCode::not_a_regular_file, place, ": is not a regular file");
  }
  return system_error(error_number, place);
}

}  // namespace

Result<File> File::open(const std::filesystem::path& path, const FileOptions& options) {
  // O_NONBLOCK: a FIFO without a writer must not block; it has no effect on regular files.
  const int flags =
      O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | (options.follow_links ? 0 : O_NOFOLLOW);
  int descriptor = -1;
  do {
    descriptor = ::open(path.c_str(), flags);
  } while (descriptor < 0 && errno == EINTR);
  if (descriptor < 0) return open_error(errno, path, options);

  File file(path, descriptor, 0, 0);  // owns the descriptor from here on
  struct stat status = {};
  if (::fstat(descriptor, &status) != 0) return system_error(errno, quoted(path.native()));
  if (!S_ISREG(status.st_mode)) {
    return make_error(ErrorCode::not_a_regular_file, quoted(path.native()), ": is ",
                      S_ISDIR(status.st_mode) ? "a directory" : "not a regular file");
  }
  file.size_ = static_cast<std::uint64_t>(status.st_size);
  file.modified_ns_ = modified_ns_of(status);
  return file;
}

File::File(File&& other) noexcept
    : path_(std::move(other.path_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      size_(other.size_),
      modified_ns_(other.modified_ns_) {}

File& File::operator=(File&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  std::swap(size_, other.size_);
  std::swap(modified_ns_, other.modified_ns_);
  return *this;
}

File::~File() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Result<void> File::read_at(std::uint64_t offset, std::span<std::byte> out) const {
  if (!in_bounds(offset, out.size(), size_)) {
    return make_error(ErrorCode::invalid_argument, quoted(path_.native()), ": cannot read ",
                      out.size(), " bytes at offset ", offset, " of ", size_, " bytes");
  }
  while (!out.empty()) {
    const std::size_t wanted = std::min(out.size(), kMaxBytesPerCall);
    const ssize_t got = ::pread(descriptor_, out.data(), wanted, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      return system_error(errno, str_cat(quoted(path_.native()), ": reading ", out.size(),
                                         " bytes at offset ", offset));
    }
    if (got == 0) {
      return make_error(ErrorCode::file_changed, quoted(path_.native()), ": ends at byte ", offset,
                        ", had ", size_, " bytes when it was opened");
    }
    out = out.subspan(static_cast<std::size_t>(got));
    offset += static_cast<std::uint64_t>(got);
  }
  return {};
}

Result<void> File::check_unchanged() const {
  struct stat status = {};
  if (::fstat(descriptor_, &status) != 0) return system_error(errno, quoted(path_.native()));
  const auto size = static_cast<std::uint64_t>(status.st_size);
  if (size != size_ || modified_ns_of(status) != modified_ns_) {
    return make_error(ErrorCode::file_changed, quoted(path_.native()),
                      ": was written to while it was being read");
  }
  return {};
}

}  // namespace flatbed
