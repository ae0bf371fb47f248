// Output: standard output, whose write errors are not lost. It goes quiet when the reader of a pipe
// has gone: that is the reader's choice and no error. Also the one way to report an error on
// standard error. For one thread at a time.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <span>
#include <string_view>

#include "flatbed/error.hpp"
#include "flatbed/result.hpp"

namespace flatbed::tool {

class Output {
 public:
  // Buffered; does nothing once wanted() is false.
  void write(std::string_view text);
  void write(std::span<const std::byte> bytes);

  // False when the reader has gone or writing failed: producing more is of no use.
  [[nodiscard]] bool wanted() const noexcept { return wanted_; }

  // Hands everything to the system and reports the first error of this or an earlier write.
  [[nodiscard]] Result<void> flush();

 private:
  void stop();

  bool wanted_ = true;
  std::optional<Error> error_;
};

// `error` with the path before its message, unless the message begins with it already.
[[nodiscard]] Error about(const std::filesystem::path& path, Error error);

// "flatbed: <message> [<name of the code>]" on standard error.
void print_error(const Error& error);

}  // namespace flatbed::tool
