// URLs on the command line: which words are some, and what may be shown of one. Pure functions.
#pragma once

#include <string>
#include <string_view>

namespace flatbed::tool {

// Whether the word is a URL: letters and "://". A file of such a name is "./NAME".
[[nodiscard]] bool is_url(std::string_view word) noexcept;

// The URL without what may be secret: a user's name, a password, and the values of a query.
[[nodiscard]] std::string shown_url(std::string_view url);

// The name of the file or folder that the URL is about: the last part of its path, or of what
// stands before it if there is none. Percent-encoded bytes are decoded, unless the name could then
// not be one of a file.
[[nodiscard]] std::string url_name(std::string_view url);

// Whether the URL is one of a folder: it ends with "/", or is hf://owner/name without a file.
[[nodiscard]] bool is_folder_url(std::string_view url) noexcept;

}  // namespace flatbed::tool
