#include "io/file_error.hpp"

#include <string>
#include <utility>

#include "base/str_cat.hpp"

namespace flatbed {

namespace {

void take_out(std::string_view file, std::string& message) {
  const std::string own = quoted(file) + ": ";
  for (std::size_t at = message.find(own); at != message.npos; at = message.find(own, at + 1)) {
    // "tensor 'a': " is about a tensor of the file's name.
    if (at != 0 && !std::string_view(message).substr(0, at).ends_with(": ")) continue;
    message.erase(at, own.size());
    return;
  }
  const std::string plain = str_cat(file, ": ");
  if (message.starts_with(plain)) message.erase(0, plain.size());
}

}  // namespace

Error in_file(std::string_view file, Error error) {
  take_out(file, error.message);
  return with_context(file, std::move(error));
}

Error in_file(std::string_view file, std::string_view place, Error error) {
  take_out(file, error.message);
  return with_context(file, with_context(place, std::move(error)));
}

}  // namespace flatbed
