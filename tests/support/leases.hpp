// Leases of the kernel's (fcntl(2), F_SETLEASE), and who is held up by them.
#pragma once

#include <fcntl.h>
#include <sys/vfs.h>

#include <cerrno>
#include <filesystem>

#include "io/descriptor.hpp"
#include "support/temp_dir.hpp"

namespace flatbed::test {

// Whether files of this process in the folder can have them. Not on overlayfs, where the library
// wants none.
inline bool has_leases(const std::filesystem::path& folder) {
  constexpr auto kOverlayfs = 0x794c7630;
  struct statfs system = {};
  write_file(folder / "leased", "x");
  const Descriptor file(::open((folder / "leased").c_str(), O_RDONLY | O_CLOEXEC));
  return ::statfs(folder.c_str(), &system) == 0 && system.f_type != kOverlayfs &&
         ::fcntl(file.get(), F_SETLEASE, F_RDLCK) == 0;
}

// Whether the file can be opened to write at once. Does not wait for a lease.
inline bool can_write(const std::filesystem::path& path) {
  return Descriptor(::open(path.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC)).get() >= 0;
}

}  // namespace flatbed::test
