#include "json_out.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "format_text.hpp"

namespace flatbed::tool {
namespace {

// The number of characters at the start of `text` that a JSON string holds as they are.
std::size_t plain_characters(std::string_view text) {
  const auto end = std::ranges::find_if(
      text, [](char c) { return c < 0x20 || c > 0x7E || c == '"' || c == '\\'; });
  return static_cast<std::size_t>(end - text.begin());
}

}  // namespace

JsonWriter& JsonWriter::key(std::string_view key) {
  separate();
  write_string(key);
  output_.write(":");
  comma_ = false;
  return *this;
}

JsonWriter& JsonWriter::text(std::string_view value) {
  separate();
  write_string(value);
  return *this;
}

JsonWriter& JsonWriter::number(std::uint64_t value) {
  separate();
  const fmt::format_int digits(value);
  output_.write({digits.data(), digits.size()});
  return *this;
}

JsonWriter& JsonWriter::real(double value) {
  separate();
  output_.write(fmt::format("{:.6g}", value));
  return *this;
}

JsonWriter& JsonWriter::boolean(bool value) {
  separate();
  output_.write(value ? "true" : "false");
  return *this;
}

JsonWriter& JsonWriter::null() {
  separate();
  output_.write("null");
  return *this;
}

JsonWriter& JsonWriter::error(const Error& error) {
  begin_object().key("code").number(static_cast<std::uint64_t>(error.code));
  return key("name").text(name(error.code)).key("message").text(error.message).end_object();
}

JsonWriter& JsonWriter::open(char bracket) {
  separate();
  output_.write(std::string_view(&bracket, 1));
  comma_ = false;
  return *this;
}

JsonWriter& JsonWriter::close(char bracket) {
  output_.write(std::string_view(&bracket, 1));
  comma_ = true;
  return *this;
}

void JsonWriter::separate() {
  if (comma_) output_.write(",");
  comma_ = true;
}

void JsonWriter::write_string(std::string_view value) {
  output_.write("\"");
  while (!value.empty()) {
    const std::size_t plain = plain_characters(value);
    output_.write(value.substr(0, plain));
    value.remove_prefix(plain);
    if (value.empty()) break;
    const CodePoint point = decode_utf8(value);
    if (!point.valid) {
      output_.write("\xEF\xBF\xBD");
    } else if (point.value == '"' || point.value == '\\') {
      output_.write("\\");
      output_.write(value.substr(0, 1));
    } else if (point.value < 0x20) {
      output_.write(fmt::format("\\u{:04x}", point.value));
    } else {
      output_.write(value.substr(0, point.nbytes));
    }
    value.remove_prefix(point.nbytes);
  }
  output_.write("\"");
}

}  // namespace flatbed::tool
