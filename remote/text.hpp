// Texts of messages and of headers. Pure functions.
#pragma once

#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "flatbed/error.hpp"

namespace flatbed::remote {

namespace text_internal {

inline void append(std::string& out, std::string_view text) { out += text; }
template <std::integral Integer>
void append(std::string& out, Integer value) {
  out += std::to_string(value);
}

}  // namespace text_internal

template <typename... Parts>
[[nodiscard]] std::string text_of(const Parts&... parts) {
  std::string out;
  (text_internal::append(out, parts), ...);
  return out;
}

template <typename... Parts>
[[nodiscard, gnu::cold, gnu::noinline]] Error error_of(ErrorCode code, const Parts&... parts) {
  return Error{code, text_of(parts...)};
}

// 'text' with everything but printable ASCII as \xNN, cut after 200 bytes.
[[nodiscard]] std::string shown(std::string_view text);

[[nodiscard]] std::string lower(std::string_view text);
// Without blanks at both ends.
[[nodiscard]] std::string_view trimmed(std::string_view text) noexcept;
// A whole decimal number and nothing else; nullopt also where it does not fit.
[[nodiscard]] std::optional<std::uint64_t> number_of(std::string_view text) noexcept;

}  // namespace flatbed::remote
