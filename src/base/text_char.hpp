// Tells text from binary data, byte by byte. Pure function, thread-safe.
#pragma once

namespace flatbed {

// Whether a text may contain `c`: tabs, line ends, escapes and everything that is not a control
// character. Bytes of UTF-8 count as characters.
[[nodiscard]] constexpr bool is_text_char(char c) noexcept {
  const auto code = static_cast<unsigned char>(c);
  return code >= 0x20 ? code != 0x7F : (code >= '\t' && code <= '\r') || code == 0x1B;
}

}  // namespace flatbed
