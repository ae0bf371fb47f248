// Text for people: sizes, counts, shapes, and strings from files in a form that is safe for a
// terminal. Pure functions, thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "flatbed/tensor.hpp"

namespace flatbed::tool {

// The first code point of `text` and its size in bytes. If the bytes are not UTF-8, valid is false
// and nbytes is 1. `text` must not be empty.
struct CodePoint {
  std::uint32_t value = 0;
  std::size_t nbytes = 1;
  bool valid = false;
};
[[nodiscard]] CodePoint decode_utf8(std::string_view text);

// The number of printable ASCII characters at the start of `text`. They are safe as they are.
[[nodiscard]] std::size_t printable_ascii(std::string_view text);

// Escapes everything that moves a terminal's cursor or reorders its text: control characters,
// bidirectional controls, bytes that are not UTF-8. Safe text stays unchanged.
[[nodiscard]] std::string safe_text(std::string_view text);
void append_safe_text(std::string& out, std::string_view text);
// A URL without its secrets: see url_text.hpp.
[[nodiscard]] std::string path_text(const std::filesystem::path& path);

// safe_text() in quotes, cut after `limit` code points.
[[nodiscard]] std::string quoted_text(std::string_view text, std::size_t limit);

// The columns that safe text takes on a terminal: two for wide characters, none for combining ones.
[[nodiscard]] std::size_t columns(std::string_view text);

// Safe text that takes at most `width` columns: its middle becomes "…" if it takes more.
[[nodiscard]] std::string shortened(std::string_view text, std::size_t width);

// `text` with spaces after it up to `width` columns.
[[nodiscard]] std::string padded(std::string_view text, std::size_t width);
void append_padded(std::string& out, std::string_view text, std::size_t width);

[[nodiscard]] std::string size_text(std::uint64_t nbytes);                          // "1.1 GiB"
[[nodiscard]] std::string number_text(std::uint64_t number);                        // "12,345"
[[nodiscard]] std::string amount_text(std::uint64_t number);                        // "6.74 B"
void append_number(std::string& out, std::uint64_t number);                         // "12345"
[[nodiscard]] std::string time_text(double seconds);                                // "1:02:03"
[[nodiscard]] std::string shape_text(ShapeView shape);                              // "[64, 3]"
[[nodiscard]] std::string count_text(std::uint64_t number, std::string_view noun);  // "2 tensors"
[[nodiscard]] std::string tensor_text(const TensorInfo& tensor);                    // "F32[64, 3]"

// The verb that agrees with count_text(number, ...): verb_text(1, "matches", "match") is "matches".
[[nodiscard]] std::string_view verb_text(std::uint64_t number, std::string_view one,
                                         std::string_view many);

}  // namespace flatbed::tool
