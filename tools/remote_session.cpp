#include "remote_session.hpp"

#include <fmt/format.h>

#include <mutex>
#include <optional>
#include <utility>

#include "format_text.hpp"
#include "interrupt.hpp"
#if FLATBED_TOOL_REMOTE
#include "flatbed/remote.hpp"
#include "remote_environment.hpp"
#endif

namespace flatbed::tool {

namespace fs = std::filesystem;

#if FLATBED_TOOL_REMOTE

struct RemoteSession::State {
  explicit State(const RemoteChoice& made_with) : choice(made_with) {}

  Result<Remote> get() {
    const std::lock_guard lock(mutex);
    if (!remote) remote = make();
    return *remote;
  }

  [[nodiscard]] Result<Remote> make() const {
    RemoteOptions options = remote_options_from_environment();
    if (!choice.ca_file.empty()) options.ca_file = choice.ca_file;
    options.cache_dir = choice.cache;
    options.cache_nbytes = choice.cache_nbytes;
    options.cancel = &interrupted();
    return Remote::make(std::move(options));
  }

  const RemoteChoice choice;
  std::mutex mutex;  // guards what follows
  std::optional<Result<Remote>> remote;
};

RemoteSession::RemoteSession(const RemoteChoice& choice)
    : state_(std::make_unique<State>(choice)) {}
RemoteSession::~RemoteSession() = default;

Result<Checkpoint> RemoteSession::open(const fs::path& url, const OpenOptions& options) {
  FLATBED_ASSIGN(const Remote remote, state_->get());
  return remote.open(url.native(), options);
}

Result<std::shared_ptr<const ByteSource>> RemoteSession::open_source(const fs::path& url) {
  FLATBED_ASSIGN(const Remote remote, state_->get());
  return remote.open_source(url.native());
}

Result<std::shared_ptr<const SourceFolder>> RemoteSession::open_folder(const fs::path& url) {
  FLATBED_ASSIGN(const Remote remote, state_->get());
  return remote.open_folder(url.native());
}

Result<std::unique_ptr<ByteSink>> RemoteSession::create(const fs::path& url, bool replace) {
  FLATBED_ASSIGN(const Remote remote, state_->get());
  return remote.create(url.native(), {.replace = replace});
}

Result<std::unique_ptr<SinkFolder>> RemoteSession::create_folder(const fs::path& url,
                                                                 bool replace) {
  FLATBED_ASSIGN(const Remote remote, state_->get());
  return remote.create_folder(url.native(), {.replace = replace});
}

#else

namespace {

Error no_remote(const fs::path& url) {
  return {ErrorCode::unsupported_format,
          fmt::format("{}: this flatbed was built without flatbed::remote, which URLs need",
                      path_text(url))};
}

}  // namespace

struct RemoteSession::State {};

RemoteSession::RemoteSession(const RemoteChoice&) {}
RemoteSession::~RemoteSession() = default;

Result<Checkpoint> RemoteSession::open(const fs::path& url, const OpenOptions&) {
  return no_remote(url);
}

Result<std::shared_ptr<const ByteSource>> RemoteSession::open_source(const fs::path& url) {
  return no_remote(url);
}

Result<std::shared_ptr<const SourceFolder>> RemoteSession::open_folder(const fs::path& url) {
  return no_remote(url);
}

Result<std::unique_ptr<ByteSink>> RemoteSession::create(const fs::path& url, bool) {
  return no_remote(url);
}

Result<std::unique_ptr<SinkFolder>> RemoteSession::create_folder(const fs::path& url, bool) {
  return no_remote(url);
}

#endif

}  // namespace flatbed::tool
