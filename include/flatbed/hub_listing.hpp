// What the API of the Hugging Face Hub says of a repository, read by the JSON reader that flatbed
// has. The component flatbed::remote asks for it; so may a SourceFolder of your own.
//
//   GET <hub>/api/models/<owner>/<name>/revision/<revision>       {"sha": <commit>, ...}
//   GET <hub>/api/models/<owner>/<name>/tree/<commit>/<folder>    [{"type": "file", "path": ...}]
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

// The paths of the files on one page of a list, from the top of the repository; folders are left
// out. Errors: http_protocol.
[[nodiscard]] FLATBED_EXPORT Result<std::vector<std::string>> parse_hub_files(
    std::string_view json);

}  // namespace flatbed
