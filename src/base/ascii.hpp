// Names of files in ASCII letters of either case. All other bytes stay as they are, so a result
// does not depend on a locale. Pure functions, thread-safe.
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

// Whether a name ends so, in letters of either case. `ending` is in lower case.
[[nodiscard]] constexpr bool has_ending(std::string_view name, std::string_view ending) noexcept {
  if (name.size() < ending.size()) return false;
  return std::ranges::equal(name.substr(name.size() - ending.size()), ending, {}, to_lower);
}

}  // namespace flatbed
