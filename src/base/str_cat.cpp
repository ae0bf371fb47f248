#include "base/str_cat.hpp"

#include <array>

#include "base/utf8.hpp"

namespace flatbed {

namespace {

constexpr char kHexDigits[] = "0123456789abcdef";
constexpr std::size_t kMaxQuoted = 200;

}  // namespace

std::string quoted(std::string_view name) {
  std::string out = "'";
  std::size_t at = 0;
  while (at < name.size() && at < kMaxQuoted) {
    const auto byte = static_cast<unsigned char>(name[at]);
    const std::size_t length = utf8_sequence(name, at);
    // C1 control characters are two bytes in UTF-8: c2 80 .. c2 9f.
    const bool control =
        byte < 0x20 || byte == 0x7F ||
        (byte == 0xC2 && length == 2 && static_cast<unsigned char>(name[at + 1]) < 0xA0);
    if (length == 0 || control) {
      out += "\\x";
      out += kHexDigits[byte >> 4];
      out += kHexDigits[byte & 15];
      at += 1;
      continue;
    }
    out.append(name, at, length);
    at += length;
  }
  out += at < name.size() ? "...'" : "'";
  return out;
}

std::string counted(std::uint64_t number, std::string_view one, std::string_view many) {
  if (number == 1 || many.empty()) return str_cat(number, " ", one, number == 1 ? "" : "s");
  return str_cat(number, " ", many);
}

std::string size_text(std::uint64_t nbytes) {
  constexpr std::array<std::string_view, 6> kUnits{" KiB", " MiB", " GiB", " TiB", " PiB", " EiB"};
  if (nbytes < 1024) return str_cat(nbytes, " B");
  std::uint64_t rest = nbytes % 1024;
  std::size_t unit = 0;
  for (nbytes /= 1024; nbytes >= 1024; nbytes /= 1024, ++unit) rest = nbytes % 1024;
  const std::uint64_t tenths = nbytes * 10 + (rest * 10 + 512) / 1024;
  return str_cat(tenths / 10, ".", tenths % 10, kUnits[unit]);
}

std::string hex(std::uint64_t value) {
  char buffer[16];
  return {buffer, std::to_chars(buffer, buffer + sizeof buffer, value, 16).ptr};
}

std::string hex16(std::uint64_t value) {
  std::string out(16, '0');
  for (std::size_t i = 16; i-- > 0; value >>= 4) out[i] = kHexDigits[value & 15];
  return out;
}

std::string shape_text(const std::uint64_t* dims, std::size_t rank) {
  std::string out = "[";
  for (std::size_t i = 0; i < rank && i < 32; ++i) out += str_cat(i == 0 ? "" : ",", dims[i]);
  return out + (rank > 32 ? ",...]" : "]");
}

}  // namespace flatbed
