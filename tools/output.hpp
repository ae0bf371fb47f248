// Output: standard output that keeps its write errors. It goes quiet when the reader of a pipe has
// gone, which is the reader's choice and not an error. Also holds the one function that reports an
// error on standard error. Not thread-safe.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "flatbed/error.hpp"
#include "flatbed/result.hpp"

namespace flatbed::tool {

class Output {
 public:
  Output() = default;
  // Writes to `text`, which must outlive this object, instead of standard output.
  explicit Output(std::string& text) : text_(&text) {}

  // Buffered; does nothing once wanted() is false.
  void write(std::string_view text) {
    if (text.size() < kBufferNbytes - buffer_.size()) {
      buffer_ += text;
    } else {
      write_through(text);
    }
  }
  void write(std::span<const std::byte> bytes);

  // Drops what is still in the buffer. False if some of what was written has left it.
  bool discard();

  // False if the reader has gone or writing failed: there is no point in producing more.
  [[nodiscard]] bool wanted() const noexcept { return wanted_; }

  // Hands everything to the system and returns the first error of this or an earlier write.
  [[nodiscard]] Result<void> flush();

 private:
  static constexpr std::size_t kBufferNbytes = 65536;

  void write_through(std::string_view text);
  void send(std::string_view text);
  void stop();

  std::string* text_ = nullptr;  // null: standard output
  std::string buffer_;           // always shorter than kBufferNbytes
  bool wanted_ = true;
  bool sent_ = false;
  std::optional<Error> error_;
};

// `error` with the path before its message, unless the message already begins with it.
[[nodiscard]] Error about(const std::filesystem::path& path, Error error);

// "flatbed: <path>: warning: <text>" with a line's end. print_warning() prints it on standard
// error.
[[nodiscard]] std::string warning_text(const std::filesystem::path& path, std::string_view text);
void print_warning(const std::filesystem::path& path, std::string_view text);

// Prints "flatbed: <message> [<name of the code>]" on standard error.
void print_error(const Error& error);

}  // namespace flatbed::tool
