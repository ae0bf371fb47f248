#include "base/json_write.hpp"

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

}  // namespace flatbed
