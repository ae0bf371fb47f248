#include "flatbed/source_folder.hpp"

#include "base/str_cat.hpp"

namespace flatbed {

SourceFolder::~SourceFolder() = default;

Result<std::vector<std::string>> SourceFolder::names() const {
  return make_error(ErrorCode::unsupported_filesystem, quoted(label()),
                    ": the folder cannot be listed; name the file to open");
}

Result<std::vector<std::string>> SourceFolder::folders() const {
  return std::vector<std::string>();
}

bool SourceFolder::lists_all() const noexcept { return true; }

unsigned SourceFolder::parallel_opens() const noexcept { return 16; }

}  // namespace flatbed
