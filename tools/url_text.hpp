// URLs on the command line: which words are some, and what may be shown of one. Pure functions.
#pragma once

#include <string>
#include <string_view>

namespace flatbed::tool {

// Whether the word is a URL: letters, "://" and something. A file of such a name is "./NAME".
[[nodiscard]] bool is_url(std::string_view word) noexcept;

// The URL without what may be secret: a user's name, a password, and the values of a query.
[[nodiscard]] std::string shown_url(std::string_view url);

}  // namespace flatbed::tool
