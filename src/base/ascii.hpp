// ASCII letters of either case, hex digits, and blanks. All other bytes are left alone, so a result
// does not depend on the locale. Pure functions, thread-safe.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>

namespace flatbed {

[[nodiscard]] constexpr char to_lower(char c) noexcept {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

[[nodiscard]] inline std::string lower_case(std::string_view text) {
  std::string out(text);
  std::ranges::transform(out, out.begin(), to_lower);
  return out;
}

// Whether a name ends with `ending`, which is in lower case; the name's letters may be of either
// case.
[[nodiscard]] constexpr bool has_ending(std::string_view name, std::string_view ending) noexcept {
  if (name.size() < ending.size()) return false;
  return std::ranges::equal(name.substr(name.size() - ending.size()), ending, {}, to_lower);
}

// Whether all of it is hex in lower case, as digests are written.
[[nodiscard]] constexpr bool is_hex(std::string_view text) noexcept {
  return std::ranges::all_of(
      text, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

// What C's isspace() and Python call whitespace.
[[nodiscard]] constexpr bool is_blank(char c) noexcept {
  return c == ' ' || (c >= '\t' && c <= '\r');
}

// `text` without the blanks at its beginning and end. Borrows it.
[[nodiscard]] constexpr std::string_view trim_blanks(std::string_view text) noexcept {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

}  // namespace flatbed
