#include "url.hpp"

#include <curl/curl.h>

#include <algorithm>
#include <array>
#include <memory>

#include "text.hpp"

namespace flatbed::remote {

namespace {

constexpr std::size_t kMaxUrl = 16'384;

// Of S3, Google and CloudFront, and of Azure; and what comes with them.
constexpr std::array<std::string_view, 4> kSignatures{"x-amz-signature", "x-goog-signature",
                                                      "signature", "sig"};
constexpr std::array<std::string_view, 19> kSigning{"awsaccesskeyid",
                                                    "googleaccessid",
                                                    "key-pair-id",
                                                    "policy",
                                                    "expires",
                                                    "se",
                                                    "sp",
                                                    "spr",
                                                    "sr",
                                                    "st",
                                                    "sv",
                                                    "skoid",
                                                    "sktid",
                                                    "skt",
                                                    "ske",
                                                    "sks",
                                                    "skv",
                                                    "sip",
                                                    "sdd"};

struct CleanUp {
  void operator()(CURLU* url) const noexcept { curl_url_cleanup(url); }
};
using Handle = std::unique_ptr<CURLU, CleanUp>;

// A part; empty where there is none.
std::string part_of(CURLU* url, CURLUPart part, unsigned flags = 0) {
  char* text = nullptr;
  if (curl_url_get(url, part, &text, flags) != CURLUE_OK) return {};
  std::string out = text;
  curl_free(text);
  return out;
}

bool is_control(char c) { return static_cast<unsigned char>(c) < 0x20 || c == '\x7F'; }

Error refused(std::string_view what) {
  return error_of(ErrorCode::url_invalid, "the URL is refused: ", what);
}

Result<Url> take_apart(CURLU* handle) {
  const std::string scheme = part_of(handle, CURLUPART_SCHEME);
  if (scheme != "http" && scheme != "https")
    return refused(text_of("found the scheme ", shown(scheme), ", expected http or https"));
  if (!part_of(handle, CURLUPART_USER).empty() || !part_of(handle, CURLUPART_PASSWORD).empty())
    return refused("it has a user name or a password; pass credentials as options");
  if (!part_of(handle, CURLUPART_FRAGMENT).empty())
    return refused("it has a fragment; write # in a name as %23");
  const std::string host = part_of(handle, CURLUPART_HOST);
  if (host.empty()) return refused("it has no host");
  Url url;
  const std::string port = part_of(handle, CURLUPART_PORT, CURLU_NO_DEFAULT_PORT);
  url.origin = lower(text_of(scheme, "://", host, port.empty() ? "" : ":", port));
  url.path = part_of(handle, CURLUPART_PATH);
  const std::string query = part_of(handle, CURLUPART_QUERY);
  url.has_query = !query.empty();
  url.text = text_of(url.origin, url.path, url.has_query ? "?" : "", query);
  return url;
}

Result<Url> set_url(CURLU* handle, std::string_view text) {
  if (text.size() > kMaxUrl) return refused("it is longer than 16384 bytes");
  if (std::ranges::any_of(text, is_control)) return refused("it has control characters");
  const CURLUcode code = curl_url_set(handle, CURLUPART_URL, std::string(text).c_str(),
                                      CURLU_URLENCODE | CURLU_NON_SUPPORT_SCHEME);
#if LIBCURL_VERSION_NUM >= 0x075000
  if (code != CURLUE_OK) return refused(text_of("it is malformed: ", curl_url_strerror(code)));
#else
  if (code != CURLUE_OK) return refused("it is malformed");
#endif
  return take_apart(handle);
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

std::string Url::label() const { return text_of(origin, path, has_query ? "?..." : ""); }

std::string unsigned_query(const Url& url) {
  const std::size_t mark = url.text.find('?');
  const std::string_view query =
      mark == url.text.npos ? std::string_view() : std::string_view(url.text).substr(mark + 1);
  std::string kept;
  bool has_signature = false;
  for (std::string_view rest = query; !rest.empty();) {
    const std::string_view parameter = rest.substr(0, rest.find('&'));
    rest.remove_prefix(std::min(parameter.size() + 1, rest.size()));
    const std::string name = lower(parameter.substr(0, parameter.find('=')));
    has_signature = has_signature || std::ranges::find(kSignatures, name) != kSignatures.end();
    const bool of_signature = name.starts_with("x-amz-") || name.starts_with("x-goog-") ||
                              std::ranges::find(kSignatures, name) != kSignatures.end() ||
                              std::ranges::find(kSigning, name) != kSigning.end();
    if (of_signature) continue;
    kept += kept.empty() ? "" : "&";
    kept += parameter;
  }
  return has_signature ? kept : std::string(query);
}

std::string scheme_of(std::string_view text) {
  const std::size_t end = text.find("://");
  if (end == text.npos || end == 0) return {};
  const std::string scheme = lower(text.substr(0, end));
  const auto fits = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.';
  };
  return std::ranges::all_of(scheme, fits) ? scheme : std::string();
}

Result<Url> parse_url(std::string_view text) {
  if (scheme_of(text).empty()) return refused("it does not begin with a scheme such as https://");
  if (text.find("///") == text.find("//")) return refused("it has no host");
  const Handle handle(curl_url());
  if (!handle) return error_of(ErrorCode::resource_exhausted, "out of memory");
  return set_url(handle.get(), text);
}

Result<Url> resolve_url(const Url& base, std::string_view reference) {
  const Handle handle(curl_url());
  if (!handle) return error_of(ErrorCode::resource_exhausted, "out of memory");
  FLATBED_TRY(set_url(handle.get(), base.text));
  // A fragment is for whoever shows a page.
  const std::string_view target = reference.substr(0, reference.find('#'));
  if (target.empty()) return refused("it is empty");
  FLATBED_ASSIGN(Url to, set_url(handle.get(), target));
  if (base.secure() && !to.secure())
    return refused(text_of("from https to ", shown(to.origin), ", which is not encrypted"));
  return to;
}

Result<Url> resolve_redirect(const Url& base, std::string_view location) {
  Result<Url> to = resolve_url(base, location);
  if (!to && to.error().code == ErrorCode::url_invalid)
    return error_of(ErrorCode::redirect_refused, "the server redirects: ", to.error().message);
  return to;
}

std::string encode_path(std::string_view path) {
  constexpr std::string_view kHex = "0123456789ABCDEF";
  constexpr std::string_view kPlain = "-._~/";
  std::string out;
  for (const char c : path) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (letter || kPlain.find(c) != kPlain.npos) {
      out += c;
      continue;
    }
    const auto byte = static_cast<unsigned char>(c);
    out += '%';
    out += kHex[byte >> 4];
    out += kHex[byte & 15];
  }
  return out;
}

std::string decode_path(std::string_view path) {
  std::string out;
  for (std::size_t i = 0; i < path.size(); ++i) {
    const bool escape = path[i] == '%' && path.size() - i > 2;
    const int high = escape ? hex_digit(path[i + 1]) : -1;
    const int low = escape ? hex_digit(path[i + 2]) : -1;
    if (high < 0 || low < 0) {
      out += path[i];
      continue;
    }
    out += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return out;
}

}  // namespace flatbed::remote
