// Folder: an open folder, in which names are moved and removed. Each change is one step for
// readers; sync() makes it durable. Owns its descriptor, and the lock if lock() took it. Move-only;
// not thread-safe. Names are those of entries, without slashes.
#pragma once

#include <filesystem>
#include <string>
#include <utility>

#include "flatbed/result.hpp"
#include "io/descriptor.hpp"

namespace flatbed {

class Folder {
 public:
  // Errors: file_not_found, not_a_regular_file (it is no folder), those of the system.
  [[nodiscard]] static Result<Folder> open(const std::filesystem::path& path);
  // Makes it first where it is not there; the folder above must be. Errors: the same.
  [[nodiscard]] static Result<Folder> make(const std::filesystem::path& path);
  // One in this folder, made where it is not there. A link is not_a_regular_file.
  [[nodiscard]] Result<Folder> make_inside(const std::string& name) const;

  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }

  // Locks the folder until this object is destroyed. False: another process, or another Folder, has
  // the lock. True also where the file system has no locks.
  [[nodiscard]] bool lock() noexcept;

  // Makes the names in it durable. Errors: those of the system.
  [[nodiscard]] Result<void> sync() const;
  // The name of the folder itself, which lies in the one above.
  [[nodiscard]] Result<void> sync_above() const;

  // Gives an entry another name, in another folder. Never replaces anything. Errors: file_exists,
  // unsupported_filesystem (the folders are on different file systems), those of the system.
  [[nodiscard]] Result<void> move(const std::string& name, const Folder& to,
                                  const std::string& new_name) const;

  // Errors: those of the system.
  [[nodiscard]] Result<void> remove_file(const std::string& name) const;
  // Removes a folder with the files of a set in it, which first gets a temporary name, so that
  // nobody sees half of it; a killed process leaves a leftover (leftover.hpp). Errors: file_exists
  // (it holds something else, and stays); io_error (some of it stays, under the temporary name);
  // those of the system.
  [[nodiscard]] Result<void> remove_set(const std::string& name) const;

 private:
  Folder(std::filesystem::path path, Descriptor descriptor)
      : path_(std::move(path)), descriptor_(std::move(descriptor)) {}

  [[nodiscard]] Error error(int error_number, const std::string& what,
                            const std::string& name) const;
  [[nodiscard]] int move_errno(const char* name, const Folder& to, const char* new_name) const;

  std::filesystem::path path_;
  Descriptor descriptor_;
};

}  // namespace flatbed
