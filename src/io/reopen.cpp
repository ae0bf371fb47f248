#include "io/reopen.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <string>

#include "base/str_cat.hpp"

namespace flatbed {

namespace {

// Without a number if `path` cannot be opened, or is no longer the file of `wanted`.
Descriptor open_same(const char* path, int flags, const struct stat& wanted) noexcept {
  // O_NONBLOCK and O_NOCTTY, because by now the path may be a FIFO or a terminal.
  const int all = flags | O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  int number = -1;
  do {
    number = ::open(path, all);
  } while (number < 0 && errno == EINTR);
  Descriptor descriptor(number);
  struct stat found = {};
  const bool same = number >= 0 && ::fstat(number, &found) == 0 && found.st_dev == wanted.st_dev &&
                    found.st_ino == wanted.st_ino;
  return same ? std::move(descriptor) : Descriptor();
}

}  // namespace

Descriptor reopen(const ByteSource& source, int flags) {
  const Result<DescriptorLease> lease = source.descriptor();
  struct stat wanted = {};
  if (!lease || !*lease || ::fstat(lease->get(), &wanted) != 0) return {};
  // Through /proc it is the same file, even if its name has changed. Not every container has a
  // /proc.
  const std::string link = str_cat("/proc/self/fd/", lease->get());
  Descriptor descriptor = open_same(link.c_str(), flags, wanted);
  if (descriptor.get() >= 0) return descriptor;
  return open_same(std::string(source.label()).c_str(), flags, wanted);
}

}  // namespace flatbed
