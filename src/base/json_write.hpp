// Writes JSON strings and floats in the one form that the format allows (spec L6, L10). Pure
// functions, thread-safe.
#pragma once

#include <string>
#include <string_view>

namespace flatbed {

// Appends "text" in quotes. Escapes only " \ and U+0000..U+001F; everything else stays raw UTF-8.
void append_json_string(std::string& out, std::string_view utf8);

// Appends a finite float in the form of Python's repr: the fewest digits that read back the same,
// always with a point or an exponent.
void append_json_real(std::string& out, double finite);

}  // namespace flatbed
