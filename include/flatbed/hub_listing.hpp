// What the API of the Hugging Face Hub says of a repository, read by the JSON reader that flatbed
// has. The component flatbed::remote asks for it; so may a SourceFolder of your own.
//
// GET <hub>/api/models/<owner>/<name>/revision/<revision> is {"sha": <commit>, ...}, and
// GET <hub>/api/models/<owner>/<name>/tree/<commit>/<folder> is [{"type": "file", "path": ...}...].
//
// Pure functions.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "flatbed/export.hpp"
#include "flatbed/result.hpp"

namespace flatbed {

// The commit of a revision: 40 hexadecimal digits in lower case. Errors: http_protocol.
[[nodiscard]] FLATBED_EXPORT Result<std::string> parse_hub_commit(std::string_view json);

// Paths from the top of the repository.
struct HubFiles {
  std::vector<std::string> files;
  std::vector<std::string> folders;  // and whatever else is no file
};

// What is on one page of a list. Errors: http_protocol.
[[nodiscard]] FLATBED_EXPORT Result<HubFiles> parse_hub_files(std::string_view json);

}  // namespace flatbed
