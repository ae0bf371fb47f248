#include "io/leftover.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <memory>

#include "base/str_cat.hpp"
#include "io/descriptor.hpp"

namespace flatbed {

namespace {

constexpr std::string_view kSuffix = ".flatbed.tmp";
constexpr std::size_t kRandomDigits = 32;
constexpr std::size_t kMaxNameInTemporary = 200;  // names have at most 255 bytes
constexpr int kMaxEntries = 1 << 20;              // of a directory that is searched

struct CloseDirectory {
  void operator()(DIR* directory) const noexcept { ::closedir(directory); }
};
using OpenDirectory = std::unique_ptr<DIR, CloseDirectory>;

// A second descriptor, because reading moves the position of the first.
OpenDirectory open_to_read(int directory) noexcept {
  const int descriptor = ::openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return nullptr;
  OpenDirectory open(::fdopendir(descriptor));
  if (!open) ::close(descriptor);
  return open;
}

// Locks across a network need a descriptor for writing, which a read-only file refuses.
Descriptor open_leftover(int directory, const char* name) noexcept {
  constexpr int kFlags = O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
  const int descriptor = ::openat(directory, name, O_RDWR | kFlags);
  if (descriptor >= 0) return Descriptor(descriptor);
  return Descriptor(::openat(directory, name, O_RDONLY | kFlags));
}

void remove_if_left(int directory, const char* name) noexcept {
  struct stat named = {};
  if (::fstatat(directory, name, &named, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(named.st_mode))
    return;
  const Descriptor file = open_leftover(directory, name);
  if (file.get() < 0 || ::flock(file.get(), LOCK_EX | LOCK_NB) != 0) return;
  // Its writer may have renamed or removed it before the lock was free.
  struct stat locked = {};
  if (::fstat(file.get(), &locked) != 0 ||
      ::fstatat(directory, name, &named, AT_SYMLINK_NOFOLLOW) != 0)
    return;
  if (locked.st_ino == named.st_ino && locked.st_dev == named.st_dev)
    ::unlinkat(directory, name, 0);
}

bool is_hex(char digit) noexcept {
  return (digit >= '0' && digit <= '9') || (digit >= 'a' && digit <= 'f');
}

}  // namespace

std::string temporary_name(std::string_view name) {
  std::uint64_t number[2] = {};
  // Cannot fail for so few bytes. If it did, names would still never be replaced.
  static_cast<void>(::getrandom(number, sizeof number, 0));
  return str_cat('.', name.substr(0, kMaxNameInTemporary), '.', hex16(number[0]), hex16(number[1]),
                 kSuffix);
}

bool is_temporary_name(std::string_view name) noexcept {
  if (!name.starts_with('.') || !name.ends_with(kSuffix)) return false;
  name.remove_suffix(kSuffix.size());
  if (name.size() < kRandomDigits + 3) return false;  // two dots and a name
  const std::string_view digits = name.substr(name.size() - kRandomDigits);
  return name[name.size() - kRandomDigits - 1] == '.' && std::ranges::all_of(digits, is_hex);
}

bool lock_temporary(int descriptor) noexcept {
  return ::flock(descriptor, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK;
}

void remove_leftovers(int directory) noexcept {
  const OpenDirectory open = open_to_read(directory);
  if (!open) return;
  for (int i = 0; i < kMaxEntries; ++i) {
    const dirent* entry = ::readdir(open.get());
    if (entry == nullptr) return;
    if (is_temporary_name(entry->d_name)) remove_if_left(directory, entry->d_name);
  }
}

}  // namespace flatbed
