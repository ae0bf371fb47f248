// str_cat() builds messages from text and numbers; the library has no other formatting. quoted()
// makes a name from a file safe to print: it escapes control characters and cuts after 200 bytes.
#pragma once

#include <charconv>
#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

#include "flatbed/error.hpp"

namespace flatbed {

namespace str_cat_internal {

inline void append(std::string& out, std::string_view text) { out += text; }
inline void append(std::string& out, char c) { out += c; }
template <std::integral Integer>
void append(std::string& out, Integer value) {
  char buffer[24];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value).ptr;
  out.append(buffer, end);
}

}  // namespace str_cat_internal

template <typename... Parts>
[[nodiscard]] std::string str_cat(const Parts&... parts) {
  std::string out;
  (str_cat_internal::append(out, parts), ...);
  return out;
}

// Out of line and cold, so that functions that check and rarely fail stay small.
template <typename... Parts>
[[nodiscard, gnu::cold, gnu::noinline]] Error make_error(ErrorCode code, const Parts&... parts) {
  return Error{code, str_cat(parts...)};
}

// 'name', with control characters and invalid UTF-8 as \xNN.
[[nodiscard]] std::string quoted(std::string_view name);
// Exact match for std::string: without it, argument-dependent lookup would choose std::quoted.
[[nodiscard]] inline std::string quoted(const std::string& name) {
  return quoted(std::string_view(name));
}
// "1 byte", "2 bytes". `many` is the plural if it is not `one` with an s.
[[nodiscard]] std::string counted(std::uint64_t number, std::string_view one,
                                  std::string_view many = {});
// "12 B", "1.5 KiB", "384.0 MiB": a size as people read it.
[[nodiscard]] std::string size_text(std::uint64_t nbytes);
// "2a" for 42: lower-case hexadecimal without prefix.
[[nodiscard]] std::string hex(std::uint64_t value);
// Exactly 16 lower-case hex digits.
[[nodiscard]] std::string hex16(std::uint64_t value);
// "[2,3]"
[[nodiscard]] std::string shape_text(const std::uint64_t* dims, std::size_t rank);

}  // namespace flatbed
