#include "io/file.hpp"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/uio.h>
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

Error range_error(const File& file, std::uint64_t offset, std::uint64_t nbytes) {
  return make_error(ErrorCode::invalid_argument, quoted(file.path().native()), ": cannot read ",
                    nbytes, " bytes at offset ", offset, " of ", file.size(), " bytes");
}

// `got` is what the system returned, no more than 0; errno is still that of the call.
[[gnu::cold]] Error failed_read(const File& file, ssize_t got, std::uint64_t offset,
                                std::uint64_t wanted) {
  const int error_number = errno;
  const std::string place = quoted(file.path().native());
  if (got == 0) {
    return make_error(ErrorCode::file_changed, place, ": ends at byte ", offset, ", had ",
                      file.size(), " bytes when it was opened");
  }
  return read_error(error_number,
                    str_cat(place, ": reading ", wanted, " bytes at offset ", offset));
}

// What is left of a list of parts of which the beginning has been read.
class PartsLeft {
 public:
  explicit PartsLeft(std::span<const std::span<std::byte>> parts) : parts_(parts) {}

  // The next bytes, as many as one call may take. Returns how many of `batch` are set.
  std::size_t fill(std::span<iovec> batch) const noexcept {
    std::size_t count = 0;
    std::size_t room = kMaxBytesPerCall;
    std::size_t used = used_;
    for (const std::span<std::byte> part : parts_) {
      if (count == batch.size() || room == 0) break;
      const std::size_t nbytes = std::min(part.size() - used, room);
      if (nbytes > 0) batch[count++] = {part.data() + used, nbytes};
      room -= nbytes;
      used = 0;
    }
    return count;
  }

  void skip(std::size_t nbytes) noexcept {
    while (nbytes > 0) {
      const std::size_t taken = std::min(nbytes, parts_.front().size() - used_);
      nbytes -= taken;
      used_ += taken;
      if (used_ == parts_.front().size()) {
        parts_ = parts_.subspan(1);
        used_ = 0;
      }
    }
  }

 private:
  std::span<const std::span<std::byte>> parts_;
  std::size_t used_ = 0;  // bytes of parts_.front()
};

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
  if (!in_bounds(offset, out.size(), size_)) return range_error(*this, offset, out.size());
  while (!out.empty()) {
    const std::size_t wanted = std::min(out.size(), kMaxBytesPerCall);
    const ssize_t got = ::pread(descriptor_, out.data(), wanted, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return failed_read(*this, got, offset, out.size());
    out = out.subspan(static_cast<std::size_t>(got));
    offset += static_cast<std::uint64_t>(got);
  }
  return {};
}

Result<void> File::read_at(std::uint64_t offset,
                           std::span<const std::span<std::byte>> parts) const {
  std::uint64_t left = 0;
  for (const std::span<std::byte> part : parts) {
    // Saturates: parts may name the same memory again and again, and no file is that large.
    left = checked_add(left, part.size()).value_or(UINT64_MAX);
  }
  if (!in_bounds(offset, left, size_)) return range_error(*this, offset, left);
  PartsLeft rest(parts);
  while (left > 0) {
    iovec batch[IOV_MAX];
    const std::size_t count = rest.fill(batch);
    const ssize_t got =
        ::preadv(descriptor_, batch, static_cast<int>(count), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return failed_read(*this, got, offset, left);
    rest.skip(static_cast<std::size_t>(got));
    left -= static_cast<std::uint64_t>(got);
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
