#include "c/guard.hpp"

#include <cstring>

namespace flatbed::c {

std::string_view cut_text(std::string_view text, std::size_t limit) noexcept {
  if (text.size() <= limit) return text;
  const auto continues = [](char byte) { return (static_cast<unsigned char>(byte) >> 6) == 2; };
  while (limit > 0 && continues(text[limit])) --limit;
  return text.substr(0, limit);
}

std::int32_t succeed(flatbed_error* out) noexcept {
  if (out != nullptr) {
    out->code = 0;
    out->message_size = 0;
    out->name = "";
    out->message[0] = '\0';
  }
  return 0;
}

std::int32_t fail(ErrorCode code, std::string_view message, flatbed_error* out) noexcept {
  const auto number = static_cast<std::int32_t>(code);
  if (out == nullptr) return number;
  const std::string_view text = cut_text(message, sizeof out->message - 1);
  std::memcpy(out->message, text.data(), text.size());
  out->message[text.size()] = '\0';
  out->message_size = static_cast<std::uint32_t>(text.size());
  out->code = number;
  out->name = name(code).data();  // NUL-terminated: the names are literals
  return number;
}

}  // namespace flatbed::c
