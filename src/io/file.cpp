#include "io/file.hpp"

#include <fcntl.h>
#include <limits.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/str_cat.hpp"
#include "io/source_range.hpp"
#include "io/system_error.hpp"

namespace flatbed {

namespace {

// The kernel caps one call at 2 GiB less a page.
constexpr std::size_t kMaxBytesPerCall = std::size_t{1} << 30;

std::int64_t ns_of(const struct timespec& time) noexcept {
  return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

Error open_error(int error_number, const std::filesystem::path& path, const FileOptions& options) {
  const std::string place = quoted(path.native());
  if (error_number == ELOOP && !options.follow_links) {
    return make_error(ErrorCode::shard_link_refused, place,
                      ": is a symbolic link, which is not allowed here");
  }
  if (error_number == ELOOP)
    return make_error(ErrorCode::not_a_regular_file, place, ": is a loop of symbolic links");
  if (error_number == ENXIO || error_number == ENODEV) {  // a socket, or a device without driver
    return make_error(ErrorCode::not_a_regular_file, place, ": is not a regular file");
  }
  if (error_number == ENAMETOOLONG) {  // nothing can have such a name
    return make_error(ErrorCode::file_not_found, place, ": the file name is too long");
  }
  return system_error(error_number, place);
}

// -1 and errno where it fails.
Descriptor open_at(int folder, const char* name, int flags) {
  int descriptor = -1;
  do {
    descriptor = ::openat(folder, name, flags | O_CLOEXEC);
  } while (descriptor < 0 && errno == EINTR);
  return Descriptor(descriptor);
}

// A folder that is no link. It is opened for what is in it, so a link that comes later changes
// nothing.
Descriptor open_folder(int parent, const char* name) {
  Descriptor folder = open_at(parent, name, O_PATH | O_DIRECTORY | O_NOFOLLOW);
  if (folder.get() >= 0 || errno != ENOTDIR) return folder;
  struct stat status = {};
  const bool link =
      ::fstatat(parent, name, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(status.st_mode);
  errno = link ? ELOOP : ENOTDIR;
  return folder;
}

// Opens `path`, which begins with `below`, without following a link after that.
Result<Descriptor> open_below(const std::filesystem::path& below, const std::filesystem::path& path,
                              int flags) {
  const FileOptions no_links{.follow_links = false};
  Descriptor folder = open_at(AT_FDCWD, below.empty() ? "." : below.c_str(), O_PATH | O_DIRECTORY);
  if (folder.get() < 0) return open_error(errno, below, {});
  const std::string& whole = path.native();
  std::size_t at = below.native().size();
  for (;;) {
    at = std::min(whole.find_first_not_of('/', at), whole.size());
    const std::size_t end = whole.find('/', at);
    const std::string name = whole.substr(at, end - at);
    const bool last = end == std::string::npos;
    Descriptor found = last ? open_at(folder.get(), name.c_str(), flags | O_NOFOLLOW)
                            : open_folder(folder.get(), name.c_str());
    if (found.get() < 0) return open_error(errno, whole.substr(0, end), no_links);
    if (last) return found;
    folder = std::move(found);
    at = end;
  }
}

Result<Descriptor> open_descriptor(const std::filesystem::path& path, const FileOptions& options) {
  // O_NONBLOCK: a FIFO without a writer must not block; it has no effect on regular files.
  const int flags = O_RDONLY | O_NONBLOCK | O_NOCTTY;
  if (!options.follow_links && options.below) return open_below(*options.below, path, flags);
  Descriptor descriptor =
      open_at(AT_FDCWD, path.c_str(), flags | (options.follow_links ? 0 : O_NOFOLLOW));
  if (descriptor.get() < 0) return open_error(errno, path, options);
  return descriptor;
}

// `got` is what the system returned, no more than 0; errno is still that of the call.
[[gnu::cold]] Error failed_read(const File& file, ssize_t got, std::uint64_t offset,
                                std::uint64_t wanted) {
  const int error_number = errno;
  const std::string place = quoted(file.path().native());
  if (got == 0) {
    return make_error(ErrorCode::file_changed, place,
                      ": the file shrank since it was opened: found ", offset, " bytes, expected ",
                      file.size());
  }
  return read_error(error_number,
                    str_cat(place, ": cannot read ", wanted, " bytes at offset ", offset));
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

std::shared_ptr<DescriptorPool> make_descriptor_pool() {
  constexpr rlim_t kMost = 128;
  rlimit limit = {};
  const bool known = ::getrlimit(RLIMIT_NOFILE, &limit) == 0;
  const rlim_t quarter = known ? std::max<rlim_t>(limit.rlim_cur / 4, 1) : kMost;
  return std::make_shared<DescriptorPool>(static_cast<std::size_t>(std::min(quarter, kMost)));
}

Result<File> File::open(const std::filesystem::path& path, const FileOptions& options) {
  const auto open = [&] { return open_descriptor(path, options); };
  File file(path, options);
  if (!options.pool) {
    FLATBED_ASSIGN(file.descriptor_, open());
    FLATBED_ASSIGN(file.opened_, file.identify(file.descriptor_.get()));
    return file;
  }
  file.pool_key_ = options.pool->add();
  FLATBED_ASSIGN(const auto descriptor, options.pool->get(file.pool_key_, open));
  FLATBED_ASSIGN(file.opened_, file.identify(descriptor->get()));
  return file;
}

Result<File> File::of_descriptor(int descriptor, std::string label) {
  File file(std::move(label));
  file.descriptor_ = Descriptor(::fcntl(descriptor, F_DUPFD_CLOEXEC, 0));
  if (file.descriptor_.get() < 0) return system_error(errno, quoted(file.label()));
  FLATBED_ASSIGN(file.opened_, file.identify(file.descriptor_.get()));
  return file;
}

File::~File() = default;

Result<File::Identity> File::identify(int descriptor) const {
  struct stat status = {};
  if (::fstat(descriptor, &status) != 0) return system_error(errno, quoted(path_.native()));
  if (!S_ISREG(status.st_mode)) {
    return make_error(ErrorCode::not_a_regular_file, quoted(path_.native()), ": is ",
                      S_ISDIR(status.st_mode) ? "a directory" : "not a regular file");
  }
  return Identity{status.st_dev, status.st_ino, static_cast<std::uint64_t>(status.st_size),
                  ns_of(status.st_mtim), ns_of(status.st_ctim)};
}

Result<Descriptor> File::open_again() const {
  const auto changed = [this](std::string_view what) {
    return make_error(ErrorCode::file_changed, quoted(path_.native()), ": ", what,
                      " since it was opened");
  };
  Result<Descriptor> opened = open_descriptor(path_, options_);
  if (!opened) {
    const ErrorCode code = opened.error().code;
    if (code == ErrorCode::file_not_found) return changed("was removed");
    if (code == ErrorCode::shard_link_refused || code == ErrorCode::not_a_regular_file)
      return changed("was replaced");
    return opened;
  }
  const Result<Identity> found = identify(opened->get());
  if (!found && found.error().code != ErrorCode::not_a_regular_file) return found.error();
  if (!found || *found != opened_) return changed("was replaced or written to");
  return opened;
}

Result<DescriptorLease> File::descriptor() const {
  if (!options_.pool) return DescriptorLease(descriptor_.get());
  FLATBED_ASSIGN(std::shared_ptr<const Descriptor> open,
                 options_.pool->get(pool_key_, [this] { return open_again(); }));
  const int number = open->get();
  return DescriptorLease(number, std::move(open));
}

Result<void> File::read_at(std::uint64_t offset, std::span<std::byte> out) const {
  FLATBED_TRY(check_range(*this, offset, out.size()));
  FLATBED_ASSIGN(const DescriptorLease lease, descriptor());
  while (!out.empty()) {
    const std::size_t wanted = std::min(out.size(), kMaxBytesPerCall);
    const ssize_t got = ::pread(lease.get(), out.data(), wanted, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return failed_read(*this, got, offset, out.size());
    out = out.subspan(static_cast<std::size_t>(got));
    offset += static_cast<std::uint64_t>(got);
  }
  return {};
}

Result<void> File::read_parts(std::uint64_t offset,
                              std::span<const std::span<std::byte>> parts) const {
  std::uint64_t left = nbytes_of(parts);
  FLATBED_TRY(check_range(*this, offset, left));
  FLATBED_ASSIGN(const DescriptorLease lease, descriptor());
  PartsLeft rest(parts);
  while (left > 0) {
    iovec batch[IOV_MAX];
    const std::size_t count = rest.fill(batch);
    const ssize_t got =
        ::preadv(lease.get(), batch, static_cast<int>(count), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return failed_read(*this, got, offset, left);
    rest.skip(static_cast<std::size_t>(got));
    left -= static_cast<std::uint64_t>(got);
    offset += static_cast<std::uint64_t>(got);
  }
  return {};
}

Result<void> File::check_unchanged() const {
  FLATBED_ASSIGN(const DescriptorLease lease, descriptor());
  struct stat status = {};
  if (::fstat(lease.get(), &status) != 0) return system_error(errno, quoted(path_.native()));
  const auto size = static_cast<std::uint64_t>(status.st_size);
  if (size != opened_.size || ns_of(status.st_mtim) != opened_.modified_ns) {
    return make_error(ErrorCode::file_changed, quoted(path_.native()),
                      ": the file changed while it was read");
  }
  return {};
}

}  // namespace flatbed
