// Checkpoints on servers for C: flatbed_remote.h.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "c/arguments.hpp"
#include "c/callbacks.hpp"
#include "c/guard.hpp"
#include "c/view_options.hpp"
#include "flatbed/c_handles.hpp"
#include "flatbed/flatbed_remote.h"
#include "flatbed/remote.hpp"

struct flatbed_credentials {
  static constexpr std::uint64_t kMagic = 0x666c6174'6372640f;
  static constexpr std::string_view kType = "flatbed_credentials";

  std::uint64_t magic = kMagic;
  flatbed::RemoteCredentials given;
};

struct flatbed_remote {
  static constexpr std::uint64_t kMagic = 0x666c6174'72656d10;
  static constexpr std::string_view kType = "flatbed_remote";

  explicit flatbed_remote(flatbed::Remote made) : remote(std::move(made)) {}

  std::uint64_t magic = kMagic;
  const flatbed::Remote remote;
};

namespace flatbed::c {

FLATBED_FIRST_SIZE(flatbed_remote_options, 240);
FLATBED_FIRST_SIZE(flatbed_remote_stats, 48);

namespace {

static_assert(static_cast<int>(S3Addressing::automatic) == FLATBED_S3_ADDRESSING_AUTOMATIC &&
              static_cast<int>(S3Addressing::path) == FLATBED_S3_ADDRESSING_PATH &&
              static_cast<int>(S3Addressing::virtual_host) == FLATBED_S3_ADDRESSING_VIRTUAL_HOST);

// A caller's function that gives credentials. Owns its context, which it closes, once own() was
// called. Thread-safe as the function is.
class CallerCredentials {
 public:
  explicit CallerCredentials(const flatbed_remote_options& options)
      : function_(options.credentials), close_(options.close), context_(options.context) {}
  CallerCredentials(const CallerCredentials&) = delete;
  CallerCredentials& operator=(const CallerCredentials&) = delete;
  ~CallerCredentials() {
    if (owned_ && close_ != nullptr) close_(context_);
  }

  // From now on the context is closed with this object: there is a remote that has it.
  void own() noexcept { owned_ = true; }

  [[nodiscard]] Result<RemoteCredentials> ask(const CredentialsQuery& query) const {
    flatbed_credentials credentials;
    flatbed_error said{};
    const std::int32_t code =
        function_(context_, to_c(query.origin), query.refused ? 1 : 0, &credentials, &said);
    FLATBED_TRY(
        callback_result(code, "the caller's credentials", ErrorCode::permission_denied, &said));
    return std::move(credentials.given);
  }

 private:
  decltype(flatbed_remote_options::credentials) function_;
  decltype(flatbed_remote_options::close) close_;
  void* context_;
  bool owned_ = false;
};

template <typename Number>
void set_unless_zero(std::uint64_t given, Number& out) {
  if (given != 0) out = static_cast<Number>(given);
}

// What no time can hold is left to the check of the range.
void set_unless_zero(std::uint64_t given_ms, std::chrono::milliseconds& out) {
  constexpr std::uint64_t kMost = std::numeric_limits<std::int64_t>::max();
  if (given_ms != 0) out = std::chrono::milliseconds(std::min(given_ms, kMost));
}

Result<void> read_text(flatbed_string given, std::string_view parameter, std::string& out) {
  FLATBED_ASSIGN(const std::string_view text, read_string(given, parameter));
  if (!text.empty()) out = text;
  return {};
}

Result<void> read_texts(const flatbed_remote_options& given, RemoteOptions& out) {
  FLATBED_TRY(read_text(given.proxy, "options.proxy", out.proxy));
  std::string http_proxy;
  FLATBED_TRY(read_text(given.http_proxy, "options.http_proxy", http_proxy));
  if (!http_proxy.empty()) out.http_proxy = std::move(http_proxy);
  FLATBED_TRY(read_text(given.no_proxy, "options.no_proxy", out.no_proxy));
  FLATBED_TRY(read_text(given.user_agent, "options.user_agent", out.user_agent));
  FLATBED_TRY(read_text(given.hub_endpoint, "options.hub_endpoint", out.hub_endpoint));
  FLATBED_TRY(read_text(given.s3_region, "options.s3_region", out.s3.region));
  FLATBED_TRY(read_text(given.s3_endpoint, "options.s3_endpoint", out.s3.endpoint));
  if (given.ca_file != nullptr) out.ca_file = given.ca_file;
  if (given.system_ca_file != nullptr) out.system_ca_file = given.system_ca_file;
  if (given.system_ca_dir != nullptr) out.system_ca_dir = given.system_ca_dir;
  if (given.cache_dir != nullptr) out.cache_dir = given.cache_dir;
  return {};
}

void read_numbers(const flatbed_remote_options& given, RemoteOptions& out) {
  set_unless_zero(given.cache_nbytes, out.cache_nbytes);
  set_unless_zero(given.range_nbytes, out.range_nbytes);
  set_unless_zero(given.head_nbytes, out.head_nbytes);
  set_unless_zero(given.whole_nbytes, out.whole_nbytes);
  set_unless_zero(given.connect_timeout_ms, out.connect_timeout);
  set_unless_zero(given.first_byte_timeout_ms, out.first_byte_timeout);
  set_unless_zero(given.stall_timeout_ms, out.stall_timeout);
  set_unless_zero(given.backoff_ms, out.backoff);
  set_unless_zero(given.longest_wait_ms, out.longest_wait);
  set_unless_zero(given.retries, out.retries);
  set_unless_zero(given.max_connections, out.max_connections);
}

// All but the credentials.
Result<RemoteOptions> to_cpp(const flatbed_remote_options& given) {
  RemoteOptions options;
  FLATBED_TRY(read_texts(given, options));
  read_numbers(given, options);
  FLATBED_ASSIGN(const bool no_retries, read_flag(given.no_retries, "options.no_retries"));
  if (no_retries && given.retries != 0) {
    return Error{ErrorCode::invalid_argument, "argument 'options.no_retries': found 1 with " +
                                                  std::to_string(given.retries) + " retries"};
  }
  if (no_retries) options.retries = 0;
  FLATBED_ASSIGN(options.s3.addressing,
                 read_enum<S3Addressing>(given.s3_addressing, 3, "options.s3_addressing"));
  FLATBED_ASSIGN(options.cancel, read_cancel(given.cancel));
  return options;
}

Result<void> make_remote(const flatbed_remote_options* given, flatbed_remote** out) {
  FLATBED_ASSIGN(const flatbed_remote_options read, read_options(given));
  FLATBED_ASSIGN(RemoteOptions options, to_cpp(read));
  std::shared_ptr<CallerCredentials> credentials;
  if (read.credentials != nullptr) {
    credentials = std::make_shared<CallerCredentials>(read);
    options.credentials = [credentials](const CredentialsQuery& query) {
      return credentials->ask(query);
    };
  } else if (read.close != nullptr) {
    return Error{ErrorCode::invalid_argument,
                 "argument 'options.close': found a function without credentials"};
  }
  FLATBED_ASSIGN(Remote remote, Remote::make(std::move(options)));
  *out = std::make_unique<flatbed_remote>(std::move(remote)).release();
  if (credentials != nullptr) credentials->own();
  return {};
}

flatbed_remote_stats stats_to_c(const RemoteStats& stats) {
  flatbed_remote_stats given{};
  given.struct_size = sizeof given;
  given.requests = stats.requests;
  given.retries = stats.retries;
  given.redirects = stats.redirects;
  given.nbytes = stats.bytes;
  given.cached_nbytes = stats.cached;
  return given;
}

}  // namespace
}  // namespace flatbed::c

using flatbed::Result;
using flatbed::c::check;
using flatbed::c::clear_out;
using flatbed::c::guarded;
using flatbed::c::read_string;

uint32_t flatbed_is_url(const char* text) { return text != nullptr && flatbed::is_url(text); }

int32_t flatbed_credentials_set_token(flatbed_credentials* credentials, flatbed_string token,
                                      flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(check(credentials, "credentials"));
    FLATBED_ASSIGN(credentials->given.bearer_token, read_string(token, "token"));
    return {};
  });
}

int32_t flatbed_credentials_add_header(flatbed_credentials* credentials, flatbed_string header,
                                       flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(check(credentials, "credentials"));
    FLATBED_ASSIGN(const std::string_view text, read_string(header, "header"));
    credentials->given.headers.emplace_back(text);
    return {};
  });
}

int32_t flatbed_credentials_set_keys(flatbed_credentials* credentials, flatbed_string access_key_id,
                                     flatbed_string secret_access_key, flatbed_string session_token,
                                     flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(check(credentials, "credentials"));
    FLATBED_ASSIGN(const std::string_view id, read_string(access_key_id, "access_key_id"));
    FLATBED_ASSIGN(const std::string_view secret,
                   read_string(secret_access_key, "secret_access_key"));
    FLATBED_ASSIGN(const std::string_view session, read_string(session_token, "session_token"));
    credentials->given.access_key_id = id;
    credentials->given.secret_access_key = secret;
    credentials->given.session_token = session;
    return {};
  });
}

int32_t flatbed_remote_new(const flatbed_remote_options* options, flatbed_remote** out,
                           flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(clear_out(out));
    return flatbed::c::make_remote(options, out);
  });
}

void flatbed_remote_free(flatbed_remote* remote) { flatbed::c::free_handle(remote); }

int32_t flatbed_remote_open_url(const flatbed_remote* remote, const char* url,
                                const flatbed_open_options* options, flatbed_checkpoint** out,
                                flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(clear_out(out));
    FLATBED_TRY(check(remote, "remote"));
    if (url == nullptr) return flatbed::c::null_argument("url");
    FLATBED_ASSIGN(const flatbed::OpenOptions open_options, flatbed::c::to_cpp(options));
    FLATBED_ASSIGN(flatbed::Checkpoint opened, remote->remote.open(url, open_options));
    *out = flatbed::to_c(std::move(opened));
    return {};
  });
}

int32_t flatbed_remote_stats_of(const flatbed_remote* remote, flatbed_remote_stats* out,
                                flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(check(remote, "remote"));
    FLATBED_TRY(flatbed::c::check_report(out, "out"));
    flatbed::c::fill_report(flatbed::c::stats_to_c(remote->remote.stats()), out);
    return {};
  });
}
