// DirectoryNames: reads the names in an open directory, one after the other, without allocating.
// Owns a descriptor of its own, because reading moves a descriptor's position. Move-only; for one
// thread.
#pragma once

#include <dirent.h>

#include <memory>
#include <optional>

namespace flatbed {

class DirectoryNames {
 public:
  // nullopt, and errno says why: it cannot be read.
  [[nodiscard]] static std::optional<DirectoryNames> open(int directory) noexcept;

  // The next name, without "." and "..", valid until the next call. nullptr at the end, and where
  // reading fails or the directory has more than a million entries.
  [[nodiscard]] const char* next() noexcept;

  // After next() returned nullptr: 0 at the end, else the errno of what failed, E2BIG for too many.
  [[nodiscard]] int failed() const noexcept { return failed_; }

 private:
  struct Close {
    void operator()(DIR* directory) const noexcept { ::closedir(directory); }
  };
  explicit DirectoryNames(DIR* directory) : directory_(directory) {}

  std::unique_ptr<DIR, Close> directory_;
  int entries_ = 0;
  int failed_ = 0;
};

}  // namespace flatbed
