#include "base/utf8.hpp"

#include <cstdint>
#include <cstring>

namespace flatbed {

namespace {

unsigned byte_at(std::string_view text, std::size_t at) {
  return static_cast<unsigned char>(text[at]);
}

std::size_t length_by_lead(unsigned lead) {
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead < 0xE0) return 2;
  if (lead >= 0xE0 && lead < 0xF0) return 3;
  return lead >= 0xF0 && lead < 0xF5 ? 4 : 0;
}

// Skips ASCII in steps of eight bytes from `at` on, because names are nearly always ASCII.
std::size_t skip_ascii(std::string_view text, std::size_t at) {
  constexpr std::uint64_t kHighBits = 0x8080808080808080;
  for (; text.size() - at >= 8; at += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, text.data() + at, 8);
    if ((word & kHighBits) != 0) break;
  }
  return at;
}

}  // namespace

std::size_t utf8_sequence(std::string_view text, std::size_t at) noexcept {
  const unsigned lead = byte_at(text, at);
  const std::size_t length = length_by_lead(lead);
  if (length <= 1) return length;
  if (length > text.size() - at) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte_at(text, at + i) & 0xC0) != 0x80) return 0;
  }
  const unsigned second = byte_at(text, at + 1);
  const bool overlong = (lead == 0xE0 && second < 0xA0) || (lead == 0xF0 && second < 0x90);
  const bool outside = (lead == 0xED && second >= 0xA0) || (lead == 0xF4 && second >= 0x90);
  return overlong || outside ? 0 : length;
}

bool is_surrogate(std::string_view text, std::size_t at) noexcept {
  return text.size() - at >= 3 && byte_at(text, at) == 0xED &&
         (byte_at(text, at + 1) & 0xE0) == 0xA0 && (byte_at(text, at + 2) & 0xC0) == 0x80;
}

bool is_utf8(std::string_view text) noexcept {
  for (std::size_t at = skip_ascii(text, 0); at < text.size();) {
    const std::size_t length = utf8_sequence(text, at);
    if (length == 0) return false;
    at += length;
  }
  return true;
}

bool is_wtf8(std::string_view text) noexcept {
  for (std::size_t at = skip_ascii(text, 0); at < text.size();) {
    const std::size_t length = is_surrogate(text, at) ? 3 : utf8_sequence(text, at);
    if (length == 0) return false;
    at += length;
  }
  return true;
}

std::string replace_surrogates(std::string_view wtf8) {
  std::string out;
  for (std::size_t at = 0; at < wtf8.size();) {
    if (is_surrogate(wtf8, at)) {
      out += "\xEF\xBF\xBD";
      at += 3;
      continue;
    }
    out += wtf8[at++];
  }
  return out;
}

}  // namespace flatbed
