#include "output.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>

#include "format_text.hpp"
#include "url_text.hpp"

namespace flatbed::tool {

void Output::write(std::span<const std::byte> bytes) {
  write(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

void Output::send(std::string_view text) {
  if (!wanted_ || text.empty()) return;
  sent_ = true;
  if (text_ != nullptr) {
    *text_ += text;
    return;
  }
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) stop();
}

void Output::write_through(std::string_view text) {
  send(buffer_);
  buffer_.clear();
  if (text.size() < kBufferNbytes) {
    buffer_ = text;
  } else {
    send(text);
  }
}

bool Output::discard() {
  buffer_.clear();
  return !sent_;
}

Result<void> Output::flush() {
  send(buffer_);
  buffer_.clear();
  if (wanted_ && text_ == nullptr && std::fflush(stdout) != 0) stop();
  if (error_) return *error_;
  return {};
}

// The first failed write, with the errno that the system set.
void Output::stop() {
  const int cause = errno;
  wanted_ = false;
  if (cause == EPIPE) return;
  const bool full = cause == ENOSPC || cause == EDQUOT || cause == EFBIG;
  error_ = Error{full ? ErrorCode::no_space : ErrorCode::io_error,
                 fmt::format("standard output: cannot write: {}", std::strerror(cause))};
}

Error about(const std::filesystem::path& path, Error error) {
  const std::string name = is_url(path.native()) ? shown_url(path.native()) : path.native();
  const std::string_view message = error.message;
  if (message.starts_with(name) || message.starts_with(fmt::format("'{}'", name))) return error;
  return with_context(path_text(path), std::move(error));
}

std::string warning_text(const std::filesystem::path& path, std::string_view text) {
  return fmt::format("flatbed: {}: warning: {}\n", path_text(path), safe_text(text));
}

void print_warning(const std::filesystem::path& path, std::string_view text) {
  const std::string line = warning_text(path, text);
  std::fwrite(line.data(), 1, line.size(), stderr);
}

void print_error(const Error& error) {
  const std::string line =
      fmt::format("flatbed: {} [{}]\n", safe_text(error.message), name(error.code));
  std::fwrite(line.data(), 1, line.size(), stderr);
}

}  // namespace flatbed::tool
