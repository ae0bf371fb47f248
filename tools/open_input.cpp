#include "open_input.hpp"

#include <fmt/format.h>

#include "format_text.hpp"
#include "url_text.hpp"

namespace flatbed::tool {
namespace {

Error no_remote(const std::filesystem::path& input) {
  return {ErrorCode::unsupported_format,
          fmt::format("{}: this flatbed was built without flatbed::remote, which reads URLs",
                      path_text(input))};
}

}  // namespace

Result<Checkpoint> open_input(const std::filesystem::path& input, const OpenOptions& options,
                              const RemoteChoice& remote) {
  static_cast<void>(remote);
  if (is_url(input.native())) return no_remote(input);
  return Checkpoint::open(input, options);
}

Result<ScanReport> scan_input(const std::filesystem::path& input, const ScanOptions& options,
                              const RemoteChoice& remote) {
  static_cast<void>(remote);
  if (is_url(input.native())) return no_remote(input);
  return scan(input, options);
}

Result<void> check_is_local(const std::filesystem::path& path, std::string_view use) {
  if (!is_url(path.native())) return {};
  return Error{ErrorCode::invalid_argument,
               fmt::format("{}: {} takes local files: found a URL", path_text(path), use)};
}

}  // namespace flatbed::tool
