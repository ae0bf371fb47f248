#include "output.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>

#include "format_text.hpp"

namespace flatbed::tool {

void Output::write(std::string_view text) { write(std::as_bytes(std::span(text))); }

void Output::write(std::span<const std::byte> bytes) {
  if (!wanted_ || bytes.empty()) return;
  if (std::fwrite(bytes.data(), 1, bytes.size(), stdout) != bytes.size()) stop();
}

Result<void> Output::flush() {
  if (wanted_ && std::fflush(stdout) != 0) stop();
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
  const std::string& name = path.native();
  const std::string_view message = error.message;
  if (message.starts_with(name) || message.starts_with(fmt::format("'{}'", name))) return error;
  return with_context(path_text(path), std::move(error));
}

void print_warning(const std::filesystem::path& path, std::string_view text) {
  const std::string line =
      fmt::format("flatbed: {}: warning: {}\n", path_text(path), safe_text(text));
  std::fwrite(line.data(), 1, line.size(), stderr);
}

void print_error(const Error& error) {
  const std::string line =
      fmt::format("flatbed: {} [{}]\n", safe_text(error.message), name(error.code));
  std::fwrite(line.data(), 1, line.size(), stderr);
}

}  // namespace flatbed::tool
