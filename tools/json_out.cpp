#include "json_out.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "format_text.hpp"
#include "url_text.hpp"

namespace flatbed::tool {
namespace {

// The number of characters at the start of `text` that a JSON string holds as they are.
std::size_t plain_characters(std::string_view text) {
  const auto end = std::ranges::find_if(
      text, [](char c) { return c < 0x20 || c > 0x7E || c == '"' || c == '\\'; });
  return static_cast<std::size_t>(end - text.begin());
}

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const CodePoint point = decode_utf8(text);
    if (!point.valid) return false;
    text.remove_prefix(point.nbytes);
  }
  return true;
}

std::string hex_text(std::string_view bytes) {
  std::string out;
  for (const char byte : bytes) {
    fmt::format_to(std::back_inserter(out), "{:02x}", static_cast<unsigned char>(byte));
  }
  return out;
}

constexpr std::uint64_t kSchema = 1;  // incremented when existing readers would break

}  // namespace

JsonWriter& JsonWriter::begin_result(std::string_view command) {
  begin_object().key("schema").number(kSchema).key("command");
  return command.empty() ? null() : text(command);
}

void JsonWriter::end_result(ExitCode code, const std::optional<Error>& error) {
  key("exit_code").number(static_cast<std::uint64_t>(code)).key("error");
  error ? this->error(*error) : null();
  end_object();
  output_.write("\n");
}

JsonWriter& JsonWriter::named(std::string_view key, std::string_view name) {
  this->key(key).text(name);
  return is_utf8(name) ? *this : this->key(fmt::format("{}_bytes", key)).text(hex_text(name));
}

JsonWriter& JsonWriter::path(std::string_view key, const std::filesystem::path& value) {
  const std::string_view text = value.native();
  return is_url(text) ? named(key, shown_url(text)) : named(key, text);
}

JsonWriter& JsonWriter::paths(std::string_view key, std::span<const std::filesystem::path> values) {
  const auto list = [&](std::string_view own, auto text_of) {
    this->key(own).begin_array();
    for (const std::filesystem::path& value : values) text(text_of(value.native()));
    end_array();
  };
  list(key,
       [](std::string_view name) { return is_url(name) ? shown_url(name) : std::string(name); });
  const auto is_plain = [](const std::filesystem::path& value) { return is_utf8(value.native()); };
  if (!std::ranges::all_of(values, is_plain)) list(fmt::format("{}_bytes", key), hex_text);
  return *this;
}

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

JsonWriter& JsonWriter::digits(std::string_view value) {
  separate();
  output_.write(value);
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
