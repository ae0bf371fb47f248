// Writes JSON strings in the one form that the format allows (spec L6). Pure functions,
// thread-safe.
#pragma once

#include <string>
#include <string_view>

namespace flatbed {

// Appends "text" in quotes. Escapes only " \ and U+0000..U+001F; everything else stays raw UTF-8.
void append_json_string(std::string& out, std::string_view utf8);

}  // namespace flatbed
