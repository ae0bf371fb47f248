#include "open_input.hpp"

#include <fmt/format.h>

#include "format_text.hpp"
#include "remote_session.hpp"
#include "url_text.hpp"

namespace flatbed::tool {

void begin_session(RemoteChoice& remote) {
  remote.session = std::make_shared<RemoteSession>(remote);
}

std::shared_ptr<RemoteSession> session_of(const RemoteChoice& remote) {
  return remote.session ? remote.session : std::make_shared<RemoteSession>(remote);
}

Result<Checkpoint> open_input(const std::filesystem::path& input, const OpenOptions& options,
                              const RemoteChoice& remote) {
  if (!is_url(input.native())) return Checkpoint::open(input, options);
  return session_of(remote)->open(input, options);
}

Result<ScanReport> scan_input(const std::filesystem::path& input, const ScanOptions& options,
                              const RemoteChoice& remote) {
  if (!is_url(input.native())) return scan(input, options);
  const std::shared_ptr<RemoteSession> session = session_of(remote);
  FLATBED_ASSIGN(const std::shared_ptr<const ByteSource> source, session->open_source(input));
  return scan(*source, options);
}

Result<void> check_is_local(const std::filesystem::path& path, std::string_view use) {
  if (!is_url(path.native())) return {};
  return Error{ErrorCode::invalid_argument,
               fmt::format("{}: {} takes local files: found a URL", path_text(path), use)};
}

}  // namespace flatbed::tool
