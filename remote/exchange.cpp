#include "exchange.hpp"

#include <algorithm>
#include <cstring>

#include "text.hpp"

namespace flatbed::remote {

namespace {

constexpr int kFromStart = 0;  // SEEK_SET
constexpr std::size_t kMaxHeaders = 200;
constexpr std::size_t kMaxHeaderNbytes = 128 << 10;
constexpr std::size_t kLeastNbytes = 16 << 10;  // in the time of a stall
constexpr std::chrono::minutes kLongestWork{15};
constexpr long kReceiveBuffer = 512 << 10;
constexpr std::uint64_t kMostReserved = 64 << 20;
constexpr std::uint64_t kToldNbytes = 256 << 10;  // of a body at once

ErrorCode code_of(CURLcode code) {
  switch (code) {
    case CURLE_OPERATION_TIMEDOUT:
      return ErrorCode::timed_out;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_INVALIDCERTSTATUS:
      return ErrorCode::tls_failed;
    case CURLE_OUT_OF_MEMORY:
      return ErrorCode::resource_exhausted;
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_BAD_CONTENT_ENCODING:
    case CURLE_WRITE_ERROR:
      return ErrorCode::http_protocol;
    case CURLE_URL_MALFORMAT:
      return ErrorCode::url_invalid;
    default:
      return ErrorCode::connection_failed;
  }
}

// Older ones take no certificates from memory.
bool takes_blobs() {
  constexpr unsigned kTakesBlobs = 0x074d00;
  return LIBCURL_VERSION_NUM >= kTakesBlobs &&
         curl_version_info(CURLVERSION_NOW)->version_num >= kTakesBlobs;
}

bool is_transient(CURLcode code) {
  switch (code) {
    case CURLE_OPERATION_TIMEDOUT:
    // Also of a host that does not exist: what a name server says for a moment sounds the same.
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_GOT_NOTHING:
    case CURLE_PARTIAL_FILE:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_SEND_FAIL_REWIND:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
      return true;
    default:
      return false;
  }
}

}  // namespace

bool Exchange::prepare(const ExchangeLimits& limits) {
  return guarded([&] {
    Result<void> made = make_handle(limits);
    if (!made) fail(std::move(made).error(), false);
    return made.has_value();
  });
}

Result<void> Exchange::make_handle(const ExchangeLimits& limits) {
  limits_ = limits;
  handle_.reset(curl_easy_init());
  if (!handle_) return error_of(ErrorCode::resource_exhausted, "cannot make a transfer");
  Result<void> set = set_basics(limits);
  if (!set) return set;
  set_method();
  return set_headers();
}

Result<void> Exchange::set_basics(const ExchangeLimits& limits) {
  CURL* const curl = handle_.get();
  CURLcode code = curl_easy_setopt(curl, CURLOPT_URL, request_.url.c_str());
  if (code != CURLE_OK) return error_of(code_of(code), "cannot request this URL");
#if LIBCURL_VERSION_NUM >= 0x075500
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
#else
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS, CURLPROTO_HTTP | CURLPROTO_HTTPS);
#endif
  curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 1L);
  curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 2L);
  curl_easy_setopt(curl, CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_2TLS));
  curl_easy_setopt(curl, CURLOPT_HTTP09_ALLOWED, 0L);
  curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, kReceiveBuffer);
  curl_easy_setopt(curl, CURLOPT_USERAGENT, limits.user_agent.c_str());
  FLATBED_TRY(set_proxy(limits));
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(limits.connect.count()));
  FLATBED_TRY(set_certificates(limits));
  if (!request_.sigv4.empty()) {
    code = curl_easy_setopt(curl, CURLOPT_AWS_SIGV4, request_.sigv4.c_str());
    if (code != CURLE_OK) return error_of(ErrorCode::tls_failed, "libcurl cannot sign requests");
    curl_easy_setopt(curl, CURLOPT_USERPWD, request_.user_password.c_str());
  }
  curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
  curl_easy_setopt(curl, CURLOPT_HEADERDATA, this);
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, this);
  curl_easy_setopt(curl, CURLOPT_PRIVATE, this);
  return {};
}

// In place of those that libcurl was built to use.
Result<void> Exchange::set_certificates(const ExchangeLimits& limits) {
#if LIBCURL_VERSION_NUM >= 0x074d00
  constexpr CertificateOptions kOfServers{CURLOPT_CAINFO, CURLOPT_CAPATH, CURLOPT_CAINFO_BLOB};
  constexpr CertificateOptions kOfProxy{CURLOPT_PROXY_CAINFO, CURLOPT_PROXY_CAPATH,
                                        CURLOPT_PROXY_CAINFO_BLOB};
#else
  constexpr CertificateOptions kOfServers{CURLOPT_CAINFO, CURLOPT_CAPATH, CURLOPT_LASTENTRY};
  constexpr CertificateOptions kOfProxy{CURLOPT_PROXY_CAINFO, CURLOPT_PROXY_CAPATH,
                                        CURLOPT_LASTENTRY};
#endif
  FLATBED_TRY(set_certificates(limits.certificates, kOfServers));
  if (!lower(proxy_of(limits)).starts_with("https://")) return {};
  return set_certificates(limits.certificates, kOfProxy);
}

const std::string& Exchange::proxy_of(const ExchangeLimits& limits) const {
  return lower(request_.url.substr(0, 6)) == "https:" ? limits.proxy : limits.http_proxy;
}

// Empty texts, too: without them libcurl asks the environment.
Result<void> Exchange::set_proxy(const ExchangeLimits& limits) {
  CURL* const curl = handle_.get();
  CURLcode code = curl_easy_setopt(curl, CURLOPT_PROXY, proxy_of(limits).c_str());
  if (code == CURLE_OK) {
    code = curl_easy_setopt(curl, CURLOPT_NOPROXY, limits.no_proxy.c_str());
  }
  if (code != CURLE_OK) return error_of(code_of(code), "cannot request by way of this proxy");
  // What the proxy says of a tunnel is not an answer of the server.
  curl_easy_setopt(curl, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
  return {};
}

Result<void> Exchange::set_certificates(const Certificates& certificates,
                                        const CertificateOptions& options) {
  CURL* const curl = handle_.get();
  const auto text = [](const std::string& place) {
    return place.empty() ? nullptr : place.c_str();
  };
  CURLcode code = curl_easy_setopt(curl, options.file, text(certificates.places.file));
  const CURLcode folder = curl_easy_setopt(curl, options.folder, text(certificates.places.folder));
  if (code == CURLE_OK && !certificates.places.folder.empty()) code = folder;
  if (code == CURLE_OK && certificates.pem) {
    // Not copied: limits_ keeps it. Before libcurl 7.77 there is no such option.
    curl_blob blob = {const_cast<char*>(certificates.pem->data()), certificates.pem->size(),
                      CURL_BLOB_NOCOPY};
    code = curl_easy_setopt(curl, options.blob, &blob);
  }
  if (code == CURLE_OK) return {};
  return error_of(ErrorCode::tls_failed, "this libcurl cannot be given certificates to trust: ",
                  certificates.pem && !takes_blobs()
                      ? "a ca_file beside a file of the system's needs 7.77"
                      : curl_easy_strerror(code));
}

void Exchange::set_method() {
  CURL* const curl = handle_.get();
  const auto nbytes = static_cast<curl_off_t>(request_.body.size());
  switch (request_.method) {
    case Method::get:
      curl_easy_setopt(curl, CURLOPT_HTTPGET, 1L);
      return;
    case Method::head:
      curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
      return;
    case Method::remove:
      curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, "DELETE");
      return;
    case Method::put:
      curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L);
      curl_easy_setopt(curl, CURLOPT_INFILESIZE_LARGE, nbytes);
      break;
    case Method::post:
      curl_easy_setopt(curl, CURLOPT_POST, 1L);
      curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, nbytes);
      // libcurl signs the hash of these. It does not copy them.
      curl_easy_setopt(curl, CURLOPT_POSTFIELDS,
                       nbytes == 0 ? "" : static_cast<const void*>(request_.body.data()));
      return;
  }
  curl_easy_setopt(curl, CURLOPT_READFUNCTION, on_send);
  curl_easy_setopt(curl, CURLOPT_READDATA, this);
  curl_easy_setopt(curl, CURLOPT_SEEKFUNCTION, on_seek);
  curl_easy_setopt(curl, CURLOPT_SEEKDATA, this);
}

Result<void> Exchange::set_headers() {
  std::vector<std::string> headers{"Accept-Encoding: identity"};
  // No "100 Continue" before a body, which many servers do not send. Before libcurl 8, a header
  // that is removed spoils the signature: there, the wait for it is short.
  if (request_.sigv4.empty()) {
    headers.emplace_back("Expect:");
  } else {
    curl_easy_setopt(handle_.get(), CURLOPT_EXPECT_100_TIMEOUT_MS, 1L);
  }
  headers.insert(headers.end(), request_.headers.begin(), request_.headers.end());
  for (const std::string& header : headers) {
    curl_slist* const list = curl_slist_append(header_list_.get(), header.c_str());
    if (list == nullptr) return error_of(ErrorCode::resource_exhausted, "out of memory");
    static_cast<void>(header_list_.release());
    header_list_.reset(list);
  }
  curl_easy_setopt(handle_.get(), CURLOPT_HTTPHEADER, header_list_.get());
  return {};
}

Clock::time_point Exchange::deadline() const noexcept {
  const std::chrono::milliseconds wait =
      outcome_.head.status == 0 ? limits_.first_byte : limits_.stall;
  return wait.count() == 0 ? Clock::time_point::max() : last_activity_ + wait;
}

// No exception may pass through libcurl, which is C, nor leave the engine's thread. What allocates
// here ends the exchange instead.
template <typename Take>
bool Exchange::guarded(Take take) noexcept {
#if defined(__cpp_exceptions)
  try {
    return take();
  } catch (...) {
    // This text is short enough to need no memory.
    fail(Error{ErrorCode::resource_exhausted, "out of memory"}, false);
    return false;
  }
#else
  return take();
#endif
}

std::size_t Exchange::on_header(char* data, std::size_t size, std::size_t count, void* self) {
  auto& exchange = *static_cast<Exchange*>(self);
  const std::size_t nbytes = size * count;
  const std::string_view line(data, nbytes);
  return exchange.guarded([&] { return exchange.take_header(line); }) ? nbytes : 0;
}

std::size_t Exchange::on_body(char* data, std::size_t size, std::size_t count, void* self) {
  auto& exchange = *static_cast<Exchange*>(self);
  const std::size_t nbytes = size * count;
  const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), nbytes);
  return exchange.guarded([&] { return exchange.take_body(bytes); }) ? nbytes : 0;
}

std::size_t Exchange::on_send(char* data, std::size_t size, std::size_t count, void* self) {
  auto& exchange = *static_cast<Exchange*>(self);
  const auto left = exchange.request_.body.subspan(exchange.sent_);
  const std::size_t nbytes = std::min(left.size(), size * count);
  if (nbytes > 0) std::memcpy(data, left.data(), nbytes);
  exchange.sent_ += nbytes;
  exchange.count_moved(nbytes);
  return nbytes;
}

int Exchange::on_seek(void* self, curl_off_t offset, int origin) {
  auto& exchange = *static_cast<Exchange*>(self);
  const bool fits = origin == kFromStart && offset >= 0 &&
                    static_cast<std::uint64_t>(offset) <= exchange.request_.body.size();
  if (!fits) return CURL_SEEKFUNC_FAIL;
  exchange.sent_ = static_cast<std::size_t>(offset);
  return CURL_SEEKFUNC_OK;
}

bool Exchange::take_header(std::string_view line) {
  if (head_done_) return true;  // a trailer
  header_nbytes_ += line.size();
  if (header_nbytes_ > kMaxHeaderNbytes || outcome_.head.headers.size() > kMaxHeaders) {
    fail(error_of(ErrorCode::http_protocol, "the answer has too many headers"), false);
    return false;
  }
  if (line.starts_with("HTTP/")) {
    outcome_.head = {};
    return true;
  }
  const std::string_view text = trimmed(line);
  if (text.empty()) return take_head();
  const std::size_t colon = text.find(':');
  if (colon == text.npos) return true;
  outcome_.head.headers.push_back(
      {lower(trimmed(text.substr(0, colon))), std::string(trimmed(text.substr(colon + 1)))});
  return true;
}

// The end of a head: of the answer's, or of one with a status 1xx, which another one follows.
bool Exchange::take_head() {
  long status = 0;
  curl_easy_getinfo(handle_.get(), CURLINFO_RESPONSE_CODE, &status);
  if (status < 200) return true;
  outcome_.head.status = static_cast<int>(status);
  head_done_ = true;
  last_activity_ = Clock::now();
  const std::string_view encoding = outcome_.head.find("content-encoding");
  if (!encoding.empty() && lower(encoding) != "identity" && status < 300) {
    fail(error_of(ErrorCode::http_protocol, "the server sends the file compressed: found ",
                  shown(encoding), ", expected identity"),
         false);
    return false;
  }
  Result<Placement> placement = request_.place(outcome_.head);
  if (!placement) {
    fail(std::move(placement).error(), false);
    return false;
  }
  placement_ = *std::move(placement);
  return true;
}

// So that a server cannot hold a request for hours with a byte now and then. But while S3 completes
// an upload, which takes it minutes, it sends a blank now and then.
void Exchange::count_moved(std::size_t nbytes) {
  moved_ += nbytes;
  const Clock::time_point now = Clock::now();
  const bool may_work = request_.method == Method::post && now - begun_ < kLongestWork;
  if (moved_ < kLeastNbytes && !may_work) return;
  moved_ = 0;
  last_activity_ = now;
}

bool Exchange::take_body(std::span<const std::byte> bytes) {
  count_moved(bytes.size());
  if (!placement_.parts.empty()) return place_body(bytes);
  if (outcome_.body.empty()) reserve_body();
  const std::size_t room = placement_.limit - outcome_.body.size();
  const std::size_t taken = std::min(room, bytes.size());
  outcome_.body.append(reinterpret_cast<const char*>(bytes.data()), taken);
  outcome_.received += bytes.size();
  if (taken == bytes.size()) return true;
  enough_ = placement_.cut;
  if (!enough_)
    fail(error_of(ErrorCode::http_protocol, "the answer is too long: found more than ",
                  placement_.limit, " bytes"),
         false);
  return false;
}

// At once, because a text that grows is copied, and is in memory twice then. Without a size it is
// the limit, of which only what arrives is touched. A promise alone gets no more than 64 MiB.
void Exchange::reserve_body() {
  const auto stated = number_of(outcome_.head.find("content-length"));
  const std::uint64_t nbytes = stated.value_or(placement_.limit);
  outcome_.body.reserve(
      static_cast<std::size_t>(std::min({nbytes, std::uint64_t{placement_.limit}, kMostReserved})));
}

bool Exchange::place_body(std::span<const std::byte> bytes) {
  outcome_.received += bytes.size();
  while (!bytes.empty()) {
    if (part_ == placement_.parts.size()) {
      fail(error_of(ErrorCode::http_protocol, "the server sends more bytes than it was asked for"),
           false);
      return false;
    }
    const std::span<std::byte> room = placement_.parts[part_].subspan(used_);
    const std::size_t taken = std::min(room.size(), bytes.size());
    if (taken > 0) std::memcpy(room.data(), bytes.data(), taken);
    bytes = bytes.subspan(taken);
    used_ += taken;
    if (used_ == placement_.parts[part_].size()) {
      ++part_;
      used_ = 0;
    }
  }
  return tell_placed();
}

// While the bytes are still in the cache of the processor that this thread runs on.
bool Exchange::tell_placed() {
  const bool due = outcome_.received - told_ >= kToldNbytes || part_ == placement_.parts.size();
  if (!request_.placed || !due) return true;
  told_ = outcome_.received;
  Result<void> went_on = request_.placed(told_);
  if (went_on) return true;
  fail(std::move(went_on).error(), false);
  return false;
}

void Exchange::finish(CURLcode code) {
  if (outcome_.error || (code == CURLE_WRITE_ERROR && enough_)) return;
  if (code == CURLE_OK && head_done_) return;
  end_with([&]() -> Ending {
    if (code == CURLE_OK)
      return {error_of(ErrorCode::http_protocol, "the answer has no status"), true};
    long tunnel = 0;  // what a proxy said of it; 0: there was none
    curl_easy_getinfo(handle_.get(), CURLINFO_HTTP_CONNECTCODE, &tunnel);
    if (tunnel >= 300) {
      return {error_of(ErrorCode::connection_failed, "the proxy does not connect: HTTP ", tunnel,
                       tunnel == 407 ? " (it wants a user and a password)" : ""),
              tunnel >= 500};
    }
    const bool none = code == CURLE_PEER_FAILED_VERIFICATION && limits_.certificates.none();
    return {error_of(
                code_of(code), curl_easy_strerror(code),
                none ? "; this system has no certificates to trust (package ca-certificates)" : ""),
            is_transient(code)};
  });
}

void Exchange::time_out() {
  const bool answered = outcome_.head.status != 0;
  end_with([&]() -> Ending {
    return {error_of(ErrorCode::timed_out,
                     answered ? "hardly anything arrived for " : "no answer within ",
                     (answered ? limits_.stall : limits_.first_byte).count(), " ms"),
            true};
  });
}

void Exchange::cancel() {
  end_with([]() -> Ending { return {error_of(ErrorCode::cancelled, "interrupted"), false}; });
}

// With the error that say() makes, or with that there is no memory for it.
template <typename Say>
void Exchange::end_with(Say say) noexcept {
  static_cast<void>(guarded([&] {
    Ending ending = say();
    fail(std::move(ending.error), ending.transient);
    return false;
  }));
}

void Exchange::fail(Error error, bool transient) {
  outcome_.error = std::move(error);
  outcome_.transient = transient;
}

}  // namespace flatbed::remote
