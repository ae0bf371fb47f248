#include "base/json_write.hpp"

#include <charconv>
#include <cmath>

namespace flatbed {

namespace {

void append_escaped(std::string& out, char c) {
  constexpr std::string_view kShort = "b\bt\tn\nf\fr\r";
  for (std::size_t i = 0; i < kShort.size(); i += 2) {
    if (kShort[i + 1] != c) continue;
    out += '\\';
    out += kShort[i];
    return;
  }
  if (c == '"' || c == '\\') {
    out += '\\';
    out += c;
    return;
  }
  constexpr char kHex[] = "0123456789abcdef";
  out += "\\u00";
  out += kHex[static_cast<unsigned char>(c) >> 4];
  out += kHex[c & 15];
}

constexpr int kMaxPlainPoint = 16;  // from 1e16 on the exponent is written
constexpr int kMinPlainPoint = -4;  // and below 1e-4

// Appends `digits` with a point after the first `point` of them: "0.001", "12.5", "1000.0".
void append_plain(std::string& out, std::string_view digits, int point) {
  if (point <= 0) {
    out += "0.";
    out.append(static_cast<std::size_t>(-point), '0');
    out += digits;
    return;
  }
  const auto before = static_cast<std::size_t>(point);
  out += digits.substr(0, before);
  if (before < digits.size()) {
    out += '.';
    out += digits.substr(before);
    return;
  }
  out.append(before - digits.size(), '0');
  out += ".0";
}

}  // namespace

void append_json_string(std::string& out, std::string_view utf8) {
  out += '"';
  std::size_t plain = 0;  // start of the run that needs no escape
  for (std::size_t i = 0; i < utf8.size(); ++i) {
    const auto byte = static_cast<unsigned char>(utf8[i]);
    if (byte >= 0x20 && byte != '"' && byte != '\\') continue;
    out.append(utf8, plain, i - plain);
    append_escaped(out, utf8[i]);
    plain = i + 1;
  }
  out.append(utf8, plain);
  out += '"';
}

void append_json_real(std::string& out, double finite) {
  if (std::signbit(finite)) out += '-';
  // "d.ddde-05": the shortest digits. Only where the point stands differs from Python's repr.
  char buffer[32];
  const auto end =
      std::to_chars(buffer, buffer + sizeof buffer, std::abs(finite), std::chars_format::scientific)
          .ptr;
  const std::string_view text(buffer, static_cast<std::size_t>(end - buffer));
  const std::size_t mark = text.find('e');
  int exponent = 0;
  const char* const digits_of_exponent = buffer + mark + 1 + (text[mark + 1] == '+' ? 1 : 0);
  std::from_chars(digits_of_exponent, end, exponent);
  const int point = exponent + 1;
  if (point <= kMinPlainPoint || point > kMaxPlainPoint) {
    out += text;
    return;
  }
  std::string digits(text.substr(0, 1));
  if (mark > 2) digits += text.substr(2, mark - 2);
  append_plain(out, digits, point);
}

}  // namespace flatbed
