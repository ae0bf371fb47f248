#include "io/leftover.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <optional>

#include "base/str_cat.hpp"
#include "io/descriptor.hpp"
#include "io/directory_names.hpp"
#include "io/set_files.hpp"

namespace flatbed {

namespace {

constexpr std::string_view kSuffix = ".flatbed.tmp";
constexpr std::size_t kRandomDigits = 32;
constexpr std::size_t kMaxNameInTemporary = 200;  // names have at most 255 bytes

// Locks across a network need a descriptor for writing, which a read-only file refuses.
Descriptor open_leftover(int directory, const char* name) noexcept {
  constexpr int kFlags = O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
  const int descriptor = ::openat(directory, name, O_RDWR | kFlags);
  if (descriptor >= 0) return Descriptor(descriptor);
  return Descriptor(::openat(directory, name, O_RDONLY | kFlags));
}

Descriptor open_folder(int directory, const char* name) noexcept {
  return Descriptor(::openat(directory, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
}

void remove_if_left(int directory, const char* name) noexcept {
  struct stat named = {};
  if (::fstatat(directory, name, &named, AT_SYMLINK_NOFOLLOW) != 0) return;
  const bool is_folder = S_ISDIR(named.st_mode);
  if (!is_folder && !S_ISREG(named.st_mode)) return;
  const Descriptor file = is_folder ? open_folder(directory, name) : open_leftover(directory, name);
  if (file.get() < 0 || ::flock(file.get(), LOCK_EX | LOCK_NB) != 0) return;
  // Its writer may have renamed or removed it before the lock was free.
  struct stat locked = {};
  if (::fstat(file.get(), &locked) != 0 ||
      ::fstatat(directory, name, &named, AT_SYMLINK_NOFOLLOW) != 0)
    return;
  if (locked.st_ino != named.st_ino || locked.st_dev != named.st_dev) return;
  if (is_folder) {
    remove_set_folder(directory, name, file.get());
  } else {
    ::unlinkat(directory, name, 0);
  }
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
  std::optional<DirectoryNames> names = DirectoryNames::open(directory);
  if (!names) return;
  for (const char* name = names->next(); name != nullptr; name = names->next()) {
    if (is_temporary_name(name)) remove_if_left(directory, name);
  }
}

}  // namespace flatbed
