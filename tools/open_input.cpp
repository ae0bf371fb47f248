#include "open_input.hpp"

#include <fmt/format.h>

#include <mutex>
#include <optional>

#include "format_text.hpp"
#include "interrupt.hpp"
#include "url_text.hpp"
#if FLATBED_TOOL_REMOTE
#include "flatbed/remote.hpp"
#endif

namespace flatbed::tool {

#if FLATBED_TOOL_REMOTE

class RemoteSession {
 public:
  // The first choice counts. Errors: those of Remote::make().
  Result<Remote> remote(const RemoteChoice& choice) {
    const std::lock_guard lock(mutex_);
    if (!remote_) remote_ = make(choice);
    return *remote_;
  }

 private:
  static Result<Remote> make(const RemoteChoice& choice) {
    RemoteOptions options;
    options.ca_file = choice.ca_file;
    options.cancel = &interrupted();
    return Remote::make(std::move(options));
  }

  std::mutex mutex_;
  std::optional<Result<Remote>> remote_;
};

namespace {

Result<Checkpoint> open_remote(const std::filesystem::path& url, const OpenOptions& options,
                               const RemoteChoice& choice) {
  FLATBED_ASSIGN(const Remote remote, choice.session->remote(choice));
  return remote.open(url.native(), options);
}

Result<ScanReport> scan_remote(const std::filesystem::path& url, const ScanOptions& options,
                               const RemoteChoice& choice) {
  FLATBED_ASSIGN(const Remote remote, choice.session->remote(choice));
  FLATBED_ASSIGN(const std::shared_ptr<const ByteSource> source, remote.open_source(url.native()));
  return scan(*source, options);
}

}  // namespace

#else

class RemoteSession {};

namespace {

Error no_remote(const std::filesystem::path& input) {
  return {ErrorCode::unsupported_format,
          fmt::format("{}: this flatbed was built without flatbed::remote, which reads URLs",
                      path_text(input))};
}

Result<Checkpoint> open_remote(const std::filesystem::path& url, const OpenOptions&,
                               const RemoteChoice&) {
  return no_remote(url);
}

Result<ScanReport> scan_remote(const std::filesystem::path& url, const ScanOptions&,
                               const RemoteChoice&) {
  return no_remote(url);
}

}  // namespace

#endif

std::shared_ptr<RemoteSession> make_session() { return std::make_shared<RemoteSession>(); }

Result<Checkpoint> open_input(const std::filesystem::path& input, const OpenOptions& options,
                              const RemoteChoice& remote) {
  return is_url(input.native()) ? open_remote(input, options, remote)
                                : Checkpoint::open(input, options);
}

Result<ScanReport> scan_input(const std::filesystem::path& input, const ScanOptions& options,
                              const RemoteChoice& remote) {
  return is_url(input.native()) ? scan_remote(input, options, remote) : scan(input, options);
}

Result<void> check_is_local(const std::filesystem::path& path, std::string_view use) {
  if (!is_url(path.native())) return {};
  return Error{ErrorCode::invalid_argument,
               fmt::format("{}: {} takes local files: found a URL", path_text(path), use)};
}

}  // namespace flatbed::tool
