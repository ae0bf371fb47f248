#include "json_out.hpp"

#include <fmt/format.h>

#include <string>

#include "format_text.hpp"

namespace flatbed::tool {

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
  output_.write(fmt::format("{}", value));
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
  std::string out = "\"";
  while (!value.empty()) {
    const CodePoint point = decode_utf8(value);
    if (!point.valid) {
      out += "\xEF\xBF\xBD";
    } else if (point.value == '"' || point.value == '\\') {
      out += '\\';
      out += value[0];
    } else if (point.value < 0x20) {
      fmt::format_to(std::back_inserter(out), "\\u{:04x}", point.value);
    } else {
      out += value.substr(0, point.nbytes);
    }
    value.remove_prefix(point.nbytes);
  }
  output_.write(out + "\"");
}

}  // namespace flatbed::tool
