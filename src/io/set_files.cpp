#include "io/set_files.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>

#include "base/str_cat.hpp"
#include "io/directory_names.hpp"
#include "io/leftover.hpp"
#include "io/system_error.hpp"

namespace flatbed {

namespace {

constexpr std::string_view kBase = "model-";
constexpr std::string_view kOf = "-of-";
constexpr std::string_view kExtension = ".safetensors";
constexpr std::size_t kDigits = 5;
constexpr int kMaxRounds = 3;

std::string five_digits(std::uint32_t number) {
  std::string digits = str_cat(number);
  if (digits.size() < kDigits) digits.insert(0, kDigits - digits.size(), '0');
  return digits;
}

bool is_of_set(int folder, const char* name) noexcept {
  struct stat status = {};
  return (is_set_file_name(name) || is_temporary_name(name)) &&
         ::fstatat(folder, name, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(status.st_mode);
}

}  // namespace

std::string shard_file_name(std::uint32_t number, std::uint32_t count) {
  return str_cat(kBase, five_digits(number), kOf, five_digits(count), kExtension);
}

bool is_set_file_name(std::string_view name) noexcept {
  if (name == kSetFileName || name == kSetIndexName) return true;
  const auto take = [&](std::string_view text) {
    if (!name.starts_with(text)) return false;
    name.remove_prefix(text.size());
    return true;
  };
  const auto take_digits = [&] {
    const std::string_view digits = name.substr(0, kDigits);
    name.remove_prefix(digits.size());
    return digits.size() == kDigits &&
           std::ranges::all_of(digits, [](char c) { return c >= '0' && c <= '9'; });
  };
  return take(kBase) && take_digits() && take(kOf) && take_digits() && name == kExtension;
}

Result<SetFolder> look_into_folder(int folder, std::string_view place) {
  std::optional<DirectoryNames> names = DirectoryNames::open(folder);
  if (!names) return system_error(errno, str_cat("cannot read the folder ", place));
  SetFolder found;
  for (const char* name = names->next(); name != nullptr; name = names->next()) {
    found.empty = false;
    if (is_of_set(folder, name)) continue;
    found.other = name;
    return found;
  }
  // What was not seen may be anything.
  const int failed = names->failed();
  if (failed == E2BIG)
    return make_error(ErrorCode::limit_exceeded, place, ": has too many entries");
  if (failed != 0) return system_error(failed, str_cat("cannot read the folder ", place));
  return found;
}

std::optional<FilePermissions> common_permissions(int folder) noexcept {
  std::optional<DirectoryNames> names = DirectoryNames::open(folder);
  std::optional<FilePermissions> common;
  for (const char* name = names ? names->next() : nullptr; name != nullptr; name = names->next()) {
    struct stat status = {};
    if (::fstatat(folder, name, &status, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(status.st_mode))
      continue;
    narrow(common, {status.st_mode & kPermissionBits, status.st_gid});
  }
  return common;
}

bool remove_set_folder(int parent, const char* name, int folder) noexcept {
  std::optional<DirectoryNames> names = DirectoryNames::open(folder);
  if (!names) return false;
  for (const char* entry = names->next(); entry != nullptr; entry = names->next()) {
    if (!is_of_set(folder, entry)) return false;
  }
  if (names->failed() != 0) return false;
  // Where removing an entry made the reading pass over another, the next round finds it.
  for (int round = 0; round < kMaxRounds; ++round) {
    names = DirectoryNames::open(folder);
    if (!names) return false;
    for (const char* entry = names->next(); entry != nullptr; entry = names->next()) {
      if (is_of_set(folder, entry)) ::unlinkat(folder, entry, 0);
    }
    if (::unlinkat(parent, name, AT_REMOVEDIR) == 0) return true;
  }
  return false;
}

}  // namespace flatbed
