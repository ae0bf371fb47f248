// JsonWriter: writes one compact JSON value to an Output. The caller is responsible for the order:
// a key before each value in objects, and an end for every begin. In strings, each byte that is not
// valid UTF-8 (file names may have some) becomes U+FFFD. Not thread-safe.
//
//   JsonWriter json(output);
//   json.begin_object().key("name").text("w").key("nbytes").number(8).end_object();
#pragma once

#include <cstdint>
#include <string_view>

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

  JsonWriter& text(std::string_view value);
  JsonWriter& number(std::uint64_t value);
  JsonWriter& real(double value);  // must be finite
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
