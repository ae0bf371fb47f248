// JsonWriter: writes one compact JSON value to an Output. The caller is responsible for the order:
// a key before each value in objects, and an end for every begin. In strings, each byte that is not
// valid UTF-8 becomes U+FFFD; named() and path() keep such bytes too. Not thread-safe.
//
// What a command prints is one object, which doc/output.schema.json describes:
//
//   JsonWriter json(output);
//   json.begin_result("ls").path("path", file).key("nbytes").number(8);
//   json.end_result(ExitCode::ok, std::nullopt);
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string_view>

#include "exit_code.hpp"
#include "flatbed/error.hpp"
#include "output.hpp"

namespace flatbed::tool {

class JsonWriter {
 public:
  explicit JsonWriter(Output& output) : output_(output) {}

  JsonWriter& begin_object() { return open('{'); }
  JsonWriter& end_object() { return close('}'); }
  JsonWriter& begin_array() { return open('['); }
  JsonWriter& end_array() { return close(']'); }
  JsonWriter& key(std::string_view key);

  // {"schema": 1, "command": ..., and at the end "exit_code": ..., "error": null or what failed}
  // with a line's end after it. `command` is empty if the command line names none.
  JsonWriter& begin_result(std::string_view command);
  void end_result(ExitCode code, const std::optional<Error>& error);

  // A key with the name of a file or a record. If that is not UTF-8, a second key, "<key>_bytes",
  // holds its bytes in hex. Of several names that key has those of all. path() and paths() leave
  // the secrets of URLs out.
  JsonWriter& named(std::string_view key, std::string_view name);
  JsonWriter& path(std::string_view key, const std::filesystem::path& value);
  JsonWriter& paths(std::string_view key, std::span<const std::filesystem::path> values);

  JsonWriter& text(std::string_view value);
  JsonWriter& number(std::uint64_t value);
  JsonWriter& real(double value);              // must be finite
  JsonWriter& digits(std::string_view value);  // a number that is text already
  JsonWriter& boolean(bool value);
  JsonWriter& null();
  JsonWriter& error(const Error& error);  // {"code", "name", "message"}

 private:
  JsonWriter& open(char bracket);
  JsonWriter& close(char bracket);
  void separate();
  void write_string(std::string_view value);

  Output& output_;
  bool comma_ = false;  // a value precedes this place in the same object or array
};

}  // namespace flatbed::tool
