// Url: an http or https URL, taken apart and normalized by libcurl. A value; pure functions.
#pragma once

#include <string>
#include <string_view>

#include "flatbed/result.hpp"

namespace flatbed::remote {

struct Url {
  std::string text;    // as it is requested, complete and percent-encoded
  std::string origin;  // "https://host" or "https://host:port" where the port is another
  std::string path;    // begins with "/"; percent-encoded
  bool has_query = false;

  // For messages: without what comes after "?", which may be a signature.
  [[nodiscard]] std::string label() const;
  [[nodiscard]] bool secure() const { return origin.starts_with("https:"); }
};

// What comes after "?" without what makes it a signed URL: the parameters that Amazon, Google and
// Azure add, which differ each time. Without a signature it is all of it.
[[nodiscard]] std::string unsigned_query(const Url& url);

// "scheme" of "scheme://...", in lower case; empty where there is none.
[[nodiscard]] std::string scheme_of(std::string_view text);

// Errors: url_invalid: another scheme than http and https, a user name, a fragment, control
// characters, no host, anything else that libcurl does not take. The message does not contain what
// may be a secret.
[[nodiscard]] Result<Url> parse_url(std::string_view text);

// What a server's reference, complete or relative, means from `base`. Errors: url_invalid, as above
// and from https to http.
[[nodiscard]] Result<Url> resolve_url(const Url& base, std::string_view reference);
// Where a Location header leads from `base`. Errors: redirect_refused, for the same reasons.
[[nodiscard]] Result<Url> resolve_redirect(const Url& base, std::string_view location);

// Percent-encodes everything but letters, digits and -._~/
[[nodiscard]] std::string encode_path(std::string_view path);
// Undoes it. An incomplete escape stands for itself.
[[nodiscard]] std::string decode_path(std::string_view path);

}  // namespace flatbed::remote
