#include "output_lock.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <utility>

#include "text_hash.hpp"
#include "url_text.hpp"

namespace flatbed::tool {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxNameInLock = 200;  // names have at most 255 bytes
constexpr int kMaxAttempts = 100;

// A name that AtomicFile removes where its lock is free.
fs::path lock_path(const fs::path& output) {
  const std::string name = output.filename().native();
  const TextHash hash = hash_of(name);
  return output.parent_path() / fmt::format(".{}.{:016x}{:016x}.flatbed.tmp",
                                            name.substr(0, kMaxNameInLock), hash.high, hash.low);
}

bool is_at(const fs::path& path, int descriptor) {
  struct stat named = {}, locked = {};
  return ::fstat(descriptor, &locked) == 0 && ::lstat(path.c_str(), &named) == 0 &&
         locked.st_ino == named.st_ino && locked.st_dev == named.st_dev;
}

}  // namespace

OutputLock OutputLock::take(const fs::path& output) {
  if (is_url(output.native())) return OutputLock(State::unavailable);
  const fs::path path = lock_path(output);
  for (int attempt = 0; attempt < kMaxAttempts; ++attempt) {
    const int descriptor =
        ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
    if (descriptor < 0) return OutputLock(State::unavailable);
    if (::flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
      const bool busy = errno == EWOULDBLOCK;
      ::close(descriptor);
      return OutputLock(busy ? State::busy : State::unavailable);
    }
    // Before the lock, another worker may have finished and removed the file.
    if (is_at(path, descriptor)) {
      OutputLock lock(State::taken);
      lock.descriptor_ = descriptor;
      lock.path_ = path;
      return lock;
    }
    ::close(descriptor);
  }
  return OutputLock(State::busy);
}

OutputLock::OutputLock(OutputLock&& other) noexcept
    : state_(other.state_),
      descriptor_(std::exchange(other.descriptor_, -1)),
      path_(std::move(other.path_)) {}

OutputLock::~OutputLock() {
  if (descriptor_ < 0) return;
  ::unlink(path_.c_str());  // while it is locked, so that nobody loses a lock of their own
  ::close(descriptor_);
}

}  // namespace flatbed::tool
