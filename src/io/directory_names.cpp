#include "io/directory_names.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>

namespace flatbed {

namespace {

constexpr int kMaxEntries = 1 << 20;

}  // namespace

std::optional<DirectoryNames> DirectoryNames::open(int directory) noexcept {
  const int descriptor = ::openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return std::nullopt;
  DIR* const opened = ::fdopendir(descriptor);
  if (opened != nullptr) return DirectoryNames(opened);
  const int failed = errno;
  ::close(descriptor);
  errno = failed;
  return std::nullopt;
}

const char* DirectoryNames::next() noexcept {
  while (entries_++ < kMaxEntries) {
    errno = 0;
    const dirent* entry = ::readdir(directory_.get());
    if (entry == nullptr) {
      failed_ = errno;
      return nullptr;
    }
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") return entry->d_name;
  }
  failed_ = E2BIG;
  return nullptr;
}

}  // namespace flatbed
