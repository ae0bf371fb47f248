#include "call_run.hpp"

#include <curl/curl.h>

#include <algorithm>
#include <array>
#include <utility>

#include "s3_answer.hpp"
#include "text.hpp"

namespace flatbed {

using remote::AnswerHead;
using remote::Clock;
using remote::ContentRange;
using remote::error_of;
using remote::Exchange;
using remote::ExchangeRequest;
using remote::Method;
using remote::Outcome;
using remote::Placement;
using remote::shown;
using remote::text_of;
using remote::Url;

namespace {

constexpr std::size_t kMaxRedirects = 8;
constexpr std::size_t kErrorText = 64 << 10;
constexpr std::chrono::milliseconds kLongestBackoff{10'000};

constexpr std::array kRepeatable{408, 429, 500, 502, 503, 504};
constexpr std::array kRedirects{301, 302, 303, 307, 308};

template <std::size_t kCount>
bool is_among(int status, const std::array<int, kCount>& list) {
  return std::ranges::find(list, status) != list.end();
}

// The parts without their first bytes.
std::vector<std::span<std::byte>> parts_after(std::vector<std::span<std::byte>> parts,
                                              std::uint64_t nbytes) {
  std::size_t whole = 0;
  while (whole < parts.size() && nbytes >= parts[whole].size()) nbytes -= parts[whole++].size();
  parts.erase(parts.begin(), parts.begin() + static_cast<std::ptrdiff_t>(whole));
  if (!parts.empty()) parts[0] = parts[0].subspan(static_cast<std::size_t>(nbytes));
  return parts;
}

// Older ones sign neither the payload's hash nor a session token, and S3 refuses that.
Result<void> check_signing() {
  constexpr unsigned kSignsHeaders = 0x075700;
  const curl_version_info_data* const info = curl_version_info(CURLVERSION_NOW);
  if (info->version_num >= kSignsHeaders) return {};
  return error_of(ErrorCode::tls_failed, "libcurl cannot sign requests to S3: found version ",
                  info->version, ", expected 7.87.0 or newer");
}

// Of "120", or of a date. 0 where there is none.
std::chrono::milliseconds retry_after(const AnswerHead& head) {
  const std::string value(head.find("retry-after"));
  if (value.empty()) return {};
  constexpr std::uint64_t kDay = 86'400;
  if (const auto seconds = remote::number_of(value))
    return std::chrono::seconds(std::min(*seconds, kDay));
  const std::time_t date = curl_getdate(value.c_str(), nullptr);
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  if (date <= now) return {};
  return std::chrono::seconds(
      std::min<std::uint64_t>(static_cast<std::uint64_t>(date - now), kDay));
}

}  // namespace

std::uint64_t CallRun::wanted_nbytes() const noexcept {
  std::uint64_t nbytes = 0;
  for (const auto part : call_.range->parts) nbytes += part.size();
  return nbytes;
}

bool CallRun::at_home() const noexcept { return url_.origin == call_.home; }

std::string CallRun::condition() const {
  const bool is_known_there = call_.version_origin.empty() || call_.version_origin == url_.origin;
  return is_known_there ? call_.version.condition() : std::string();
}

CredentialsQuery CallRun::query(bool refused) const {
  return {call_.credentials_name.empty() ? std::string_view(url_.origin) : call_.credentials_name,
          refused};
}

Result<void> CallRun::begin(remote::Mailbox& mailbox, std::size_t number) {
  if (url_.text.empty()) url_ = call_.url;
  ExchangeRequest request;
  request.method = call_.method;
  request.url = url_.text;
  request.headers = call_.headers;
  request.body = call_.body;
  if (call_.range) {
    const std::uint64_t first = call_.range->offset + placed_before_;
    const std::uint64_t last = call_.range->offset + wanted_nbytes() - 1;
    request.headers.push_back(text_of("Range: bytes=", first, "-", last));
  }
  if (std::string header = condition(); !header.empty())
    request.headers.push_back(std::move(header));
  // Credentials are for the origin that they were given for.
  if (at_home()) FLATBED_TRY(set_credentials(request));
  request.place = [this](const AnswerHead& head) { return place(head); };
  if (progress_ != nullptr) {
    request.placed = [this, number](std::uint64_t nbytes) {
      return progress_->take(number, placed_before_ + nbytes);
    };
  }
  exchange_ = std::make_unique<Exchange>(std::move(request));
  transport_.counters_.requests.fetch_add(1, std::memory_order_relaxed);
  id_ = transport_.engine_->start(*exchange_, mailbox, number);
  return {};
}

Result<void> CallRun::set_credentials(ExchangeRequest& request) {
  const CredentialsProvider& provider = transport_.options_.credentials;
  if (!provider) return {};
  if (!refreshed_) {
    FLATBED_ASSIGN(credentials_, provider(query(false)));
  }
  if (!credentials_.bearer_token.empty())
    request.headers.push_back(text_of("Authorization: Bearer ", credentials_.bearer_token));
  request.headers.insert(request.headers.end(), credentials_.headers.begin(),
                         credentials_.headers.end());
  const auto broken = [](const std::string& text) {
    return text.find_first_of("\r\n") != text.npos;
  };
  if (std::ranges::any_of(request.headers, broken))
    return error_of(ErrorCode::invalid_argument, "a header or a token contains a line break");
  if (!call_.sigv4.empty() && !credentials_.access_key_id.empty()) {
    FLATBED_TRY(check_signing());
    request.sigv4 = call_.sigv4;
    // What the payload's hash is for is done by TLS, and by the MD5 of what is sent.
    request.headers.emplace_back("x-amz-content-sha256: UNSIGNED-PAYLOAD");
    request.user_password =
        text_of(credentials_.access_key_id, ":", credentials_.secret_access_key);
    if (!credentials_.session_token.empty())
      request.headers.push_back(text_of("x-amz-security-token: ", credentials_.session_token));
  }
  return {};
}

void CallRun::stop() const { transport_.engine_->stop(id_); }

Result<Placement> CallRun::place(const AnswerHead& head) const {
  const bool success = head.status >= 200 && head.status < 300;
  const bool accepted = std::ranges::find(call_.accept, head.status) != call_.accept.end();
  if (!success && !accepted) return Placement{{}, kErrorText, true};
  if (success) FLATBED_TRY(call_.version.check(head));
  if (call_.range && success) return place_range(head);
  return Placement{{}, call_.body_limit, accepted};
}

Result<Placement> CallRun::place_range(const AnswerHead& head) const {
  const auto wrong = [](const auto&... parts) {
    return error_of(ErrorCode::http_protocol, parts...);
  };
  const remote::WantedRange& range = *call_.range;
  const std::uint64_t first = range.offset + placed_before_;
  if (head.status == 200) {
    const auto length = remote::number_of(head.find("content-length"));
    if (call_.body_limit > 0 && (!length || *length <= call_.body_limit))
      return Placement{{}, call_.body_limit, false};
    return wrong("the server ignores ranges: found status 200 with ",
                 length ? text_of(*length, " bytes") : "a body of unknown size",
                 ", expected 206 with the range that begins at ", first);
  }
  const std::string_view stated = head.find("content-range");
  const auto found = remote::parse_content_range(stated);
  if (head.status != 206 || !found)
    return wrong("the server sends no range: found status ", head.status, " with Content-Range ",
                 stated.empty() ? "none" : shown(stated), ", expected 206 and bytes ", first, "-");
  if (range.file_nbytes && found->total && *found->total != *range.file_nbytes)
    return error_of(ErrorCode::file_changed, "the file changed on the server: found ",
                    *found->total, " bytes, expected ", *range.file_nbytes);
  std::uint64_t last = range.offset + wanted_nbytes() - 1;
  if (!range.file_nbytes) {
    if (!found->total)
      return wrong("the server does not state the file's size: found ", shown(stated));
    last = std::min(last, *found->total - 1);
  }
  if (found->first != first || found->last != last)
    return wrong("the server sends another range: found ", shown(stated), ", expected bytes ",
                 first, "-", last);
  Placement placement{parts_after(range.parts, placed_before_), 0, false};
  return placement;
}

Result<void> CallRun::take_outcome() {
  Outcome outcome = exchange_->take_outcome();
  exchange_.reset();
  transport_.counters_.bytes.fetch_add(outcome.received, std::memory_order_relaxed);
  if (Result<void> judged = judge(std::move(outcome)); !judged)
    return described(std::move(judged).error());
  return {};
}

Result<void> CallRun::judge(Outcome outcome) {
  const int status = outcome.head.status;
  const bool in_range = call_.range && status == 206;
  // Once the status is known, it counts, even if the text about it was cut.
  const bool refused = status >= 300 && outcome.transient;
  if (outcome.error && !refused) {
    if (in_range && outcome.transient) keep(outcome);
    // All was there before the connection was cut: no bytes are left to ask for.
    if (in_range && outcome.transient && placed_before_ == wanted_nbytes()) {
      outcome.received = 0;
      return succeed(std::move(outcome));
    }
    return retry(outcome, *outcome.error);
  }
  const bool accepted = std::ranges::find(call_.accept, status) != call_.accept.end();
  if (accepted || (status >= 200 && status < 300)) return judge_success(std::move(outcome));
  // Of S3, a redirect says that the bucket is in another region, where the signature is no good.
  const bool in_s3 = !call_.sigv4.empty();
  if (!in_s3 && is_among(status, kRedirects) && !outcome.head.find("location").empty())
    return follow(outcome);
  const auto found = in_s3 ? remote::parse_s3_error(outcome.body) : std::nullopt;
  if (status == 401 || status == 403 || (found && found->expired())) {
    FLATBED_ASSIGN(const bool again, refresh_credentials());
    if (again) return {};
  }
  outcome.transient = is_among(status, kRepeatable) || (found && found->transient());
  Error error = status_error(outcome.head);
  if (in_s3) error = remote::s3_status_error(outcome.head, found, std::move(error));
  if (error.code == ErrorCode::permission_denied && at_home() &&
      credentials_ == RemoteCredentials{})
    error.message += "; no credentials were given";
  return retry(outcome, std::move(error));
}

Result<void> CallRun::judge_success(Outcome outcome) {
  if (call_.range && outcome.head.status == 206) {
    const auto stated = remote::parse_content_range(outcome.head.find("content-range"));
    const std::uint64_t wanted = stated ? stated->last - stated->first + 1 : 0;
    if (outcome.received < wanted) {
      keep(outcome);
      outcome.transient = true;
      return retry(outcome, error_of(ErrorCode::http_protocol, "the answer is too short: found ",
                                     outcome.received, " bytes, expected ", wanted));
    }
  }
  return succeed(std::move(outcome));
}

Result<void> CallRun::succeed(Outcome outcome) {
  if (call_.range && outcome.head.status == 206) call_.placed = placed_before_ + outcome.received;
  call_.head = std::move(outcome.head);
  call_.text = std::move(outcome.body);
  call_.final_url = url_;
  ended_ = true;
  return {};
}

// The next attempt asks for the rest. While the version is not known, it might be another's.
void CallRun::keep(const Outcome& outcome) noexcept {
  if (call_.range->file_nbytes) placed_before_ += outcome.received;
}

Result<void> CallRun::follow(const Outcome& outcome) {
  if (call_.method != Method::get && call_.method != Method::head)
    return error_of(ErrorCode::redirect_refused, "the server redirects a ",
                    remote::name_of(call_.method), " with status ", outcome.head.status);
  if (call_.redirects.size() == kMaxRedirects)
    return error_of(ErrorCode::redirect_refused, "the server redirects more than ", kMaxRedirects,
                    " times");
  FLATBED_ASSIGN(url_, remote::resolve_redirect(url_, outcome.head.find("location")));
  call_.redirects.push_back(outcome.head);
  transport_.counters_.redirects.fetch_add(1, std::memory_order_relaxed);
  due_ = {};
  return {};
}

// True: there are other credentials than those that were refused, and the call is due with them.
Result<bool> CallRun::refresh_credentials() {
  const CredentialsProvider& provider = transport_.options_.credentials;
  if (!provider || refreshed_ || !at_home()) return false;
  FLATBED_ASSIGN(RemoteCredentials other, provider(query(true)));
  refreshed_ = true;
  if (other == credentials_) return false;
  credentials_ = std::move(other);
  due_ = {};
  return true;
}

Result<void> CallRun::retry(const Outcome& outcome, Error error) {
  const RemoteOptions& options = transport_.options_;
  if (!outcome.transient) return error;
  const std::chrono::milliseconds asked = retry_after(outcome.head);
  if (asked > options.longest_wait) {
    error.message += text_of("; the server asks to wait ", asked.count() / 1000, " s");
    return error;
  }
  const unsigned retries = std::min(options.retries, call_.most_retries);
  if (++failures_ > retries) {
    if (retries > 0) error.message += text_of(", after ", failures_, " attempts");
    return error;
  }
  const auto doubled = options.backoff * (1U << std::min(failures_ - 1, 16U));
  const auto wait = std::min<std::chrono::milliseconds>(doubled, kLongestBackoff);
  // Up to a quarter more, so that those who failed together do not come back together.
  const auto ticks = static_cast<std::uint64_t>(Clock::now().time_since_epoch().count());
  const auto more = wait * static_cast<int>((ticks >> 4) % 64) / 256;
  due_ = Clock::now() + std::max<std::chrono::milliseconds>(wait + more, asked);
  transport_.counters_.retries.fetch_add(1, std::memory_order_relaxed);
  return {};
}

Error CallRun::status_error(const AnswerHead& head) const {
  ErrorCode code = ErrorCode::http_status;
  std::string_view what = "the server answered with an error";
  if (head.status == 401 || head.status == 403 || head.status == 407) {
    code = ErrorCode::permission_denied;
    what = "the server does not permit access";
  } else if (head.status == 404 || head.status == 410) {
    code = ErrorCode::file_not_found;
    what = "the server has no such file";
  } else if (head.status == 412 && !condition().empty()) {
    code = ErrorCode::file_changed;
    what = "the file changed on the server";
  }
  // The Hub says here why.
  const std::string_view why = head.find("x-error-message");
  return error_of(code, what, ": found status ", head.status, why.empty() ? "" : ", ",
                  why.empty() ? "" : shown(why));
}

Error CallRun::described(Error error) const {
  std::string what(remote::name_of(call_.method));
  if (call_.range)
    what +=
        text_of(" of bytes ", call_.range->offset, "-", call_.range->offset + wanted_nbytes() - 1);
  // s3:// and hf:// do not say which host that is.
  const bool unreachable = error.code == ErrorCode::connection_failed ||
                           error.code == ErrorCode::timed_out ||
                           error.code == ErrorCode::tls_failed;
  if (url_.origin != call_.url.origin || unreachable) what += text_of(" from ", shown(url_.origin));
  return with_context(what, std::move(error));
}

}  // namespace flatbed
