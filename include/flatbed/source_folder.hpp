// SourceFolder: the source of a folder's files. Implement it for folders that are not local (a
// prefix in an object store, a repository of a hub), and pass it to Checkpoint::open(): it finds
// the shards of a set and sidecars in it.
//
// Const members must not throw and may be called from several threads at once; the files of a set
// are opened on up to parallel_opens() threads. Checkpoint::open() uses the folder until it
// returns; the sources that the folder gave share what they need of it.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "flatbed/byte_source.hpp"
#include "flatbed/export.hpp"
#include "flatbed/result.hpp"

namespace flatbed {

class FLATBED_EXPORT SourceFolder {
 public:
  SourceFolder() = default;
  SourceFolder(const SourceFolder&) = delete;
  SourceFolder& operator=(const SourceFolder&) = delete;
  virtual ~SourceFolder();

  // The folder's name in messages. Valid while the folder exists.
  [[nodiscard]] virtual std::string_view label() const noexcept = 0;

  // Opens a file of the folder. `name` is relative, with "/" between folders and without "." and
  // ".." components; any other byte may occur in it. Never null. Errors: file_not_found where there
  // is no such file; any other means that it is not known whether there is one.
  [[nodiscard]] virtual Result<std::shared_ptr<const ByteSource>> open(
      std::string_view name) const = 0;

  // The names of the files directly in the folder, in any order; those below it may be among them.
  // The default is unsupported_filesystem: the folder cannot be listed.
  [[nodiscard]] virtual Result<std::vector<std::string>> names() const;

  // How many files are best opened at once. The default is 16; at most 64 are used.
  [[nodiscard]] virtual unsigned parallel_opens() const noexcept;

  // The names of the folders directly in the folder whose files are not among names(), without a
  // slash at the end. A scan says that it left them out. The default is none.
  [[nodiscard]] virtual Result<std::vector<std::string>> folders() const;

  // False: there may be files besides names() and folders(), as on a web server, which cannot be
  // listed. A scan of the folder is then never plain. The default is true.
  [[nodiscard]] virtual bool lists_all() const noexcept;
};

}  // namespace flatbed
