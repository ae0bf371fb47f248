#include "s3_place.hpp"

#include <algorithm>

#include "text.hpp"

namespace flatbed::remote {

namespace {

constexpr std::string_view kScheme = "s3://";
constexpr std::string_view kVersionId = "?versionId=";
constexpr std::size_t kMaxKey = 1024;

bool is_plain(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

Error refused(std::string_view what) {
  return error_of(ErrorCode::url_invalid, "the URL is refused: ", what);
}

Result<void> check_bucket(std::string_view bucket) {
  constexpr std::string_view kOther = ".-_";
  if (bucket.find('@') != bucket.npos)
    return refused("it has a user name or a password; pass credentials as options");
  constexpr std::size_t kMaxBucket = 255;  // of the oldest buckets; today 63
  const bool fits = !bucket.empty() && bucket.size() <= kMaxBucket && is_plain(bucket.front()) &&
                    std::ranges::all_of(bucket, [&](char c) {
                      return is_plain(c) || kOther.find(c) != kOther.npos;
                    });
  if (fits) return {};
  return refused(text_of("found ", shown(bucket),
                         ", expected the name of a bucket: letters, digits, '.', '-', '_'"));
}

Result<void> check_key(std::string_view key) {
  if (key.size() > kMaxKey)
    return refused(text_of("the key has ", key.size(), " bytes, the limit is ", kMaxKey));
  if (std::ranges::any_of(key, [](char c) { return static_cast<unsigned char>(c) < 0x20; }))
    return refused("it has control characters");
  for (std::string_view rest = key; !rest.empty();) {
    const std::string_view component = rest.substr(0, rest.find('/'));
    if (component == "." || component == "..")
      return refused("its key has a component '.' or '..'");
    rest.remove_prefix(std::min(component.size() + 1, rest.size()));
  }
  return {};
}

Result<std::string> region_of(const S3Options& options) {
  if (options.region.empty()) return std::string("us-east-1");
  const bool fits = options.region.size() <= 64 && std::ranges::all_of(options.region, [](char c) {
                      return is_plain(c) || c == '-';
                    });
  if (fits) return options.region;
  return error_of(ErrorCode::invalid_argument, "the region of S3 is ", shown(options.region),
                  ", expected letters, digits and '-'");
}

bool is_path_style(std::string_view bucket, const S3Options& options) {
  if (options.addressing != S3Addressing::automatic)
    return options.addressing == S3Addressing::path;
  // A certificate for *.host does not fit a.b.host.
  return !options.endpoint.empty() || bucket.find('.') != bucket.npos ||
         std::ranges::any_of(bucket, [](char c) { return (c >= 'A' && c <= 'Z') || c == '_'; });
}

Result<Url> base_of(std::string_view bucket, const std::string& region, const S3Options& options) {
  std::string endpoint = options.endpoint;
  if (endpoint.empty())
    endpoint =
        text_of("https://s3.", region, ".amazonaws.com", region.starts_with("cn-") ? ".cn" : "");
  Result<Url> parsed = parse_url(endpoint);
  if (!parsed)
    return error_of(ErrorCode::invalid_argument, "the endpoint of S3: ", parsed.error().message);
  if (parsed->has_query)
    return error_of(ErrorCode::invalid_argument, "the endpoint of S3: the URL has a query");
  std::string path = parsed->path;
  if (!path.ends_with('/')) path += '/';
  if (is_path_style(bucket, options)) return parse_url(text_of(parsed->origin, path, bucket, "/"));
  const std::size_t host = parsed->origin.find("://") + 3;
  return parse_url(
      text_of(parsed->origin.substr(0, host), bucket, ".", parsed->origin.substr(host), path));
}

// As encode_path(), and "/" too.
std::string encode_value(std::string_view text) {
  std::string out;
  for (std::string_view rest = text;;) {
    const std::size_t slash = rest.find('/');
    out += encode_path(rest.substr(0, slash));
    if (slash == rest.npos) return out;
    out += "%2F";
    rest.remove_prefix(slash + 1);
  }
}

}  // namespace

bool is_s3(std::string_view url) { return scheme_of(url) == "s3"; }

Result<S3Place> place_s3(std::string_view url, const S3Options& options) {
  if (!is_s3(url)) return refused("it does not begin with s3://");
  std::string_view rest = url.substr(kScheme.size());
  S3Place place;
  if (const std::size_t at = rest.rfind(kVersionId); at != rest.npos) {
    place.version_id = rest.substr(at + kVersionId.size());
    rest = rest.substr(0, at);
  }
  const std::size_t slash = std::min(rest.find('/'), rest.size());
  const std::string_view bucket = rest.substr(0, slash);
  FLATBED_TRY(check_bucket(bucket));
  place.key = rest.substr(std::min(slash + 1, rest.size()));
  FLATBED_TRY(check_key(place.key));
  FLATBED_ASSIGN(const std::string region, region_of(options));
  FLATBED_ASSIGN(place.base, base_of(bucket, region, options));
  place.label = text_of(kScheme, bucket, "/");
  place.sigv4 = text_of("aws:amz:", region, ":s3");
  return place;
}

Url S3Place::url_of(std::string_view other_key) const {
  Url url = base;
  const std::string path = encode_path(other_key);
  url.text += path;
  url.path += path;
  return url;
}

Url S3Place::url() const {
  if (version_id.empty()) return url_of(key);
  return url_with(key, {{"versionId", version_id}});
}

Url S3Place::url_with(
    std::string_view for_key,
    const std::vector<std::pair<std::string_view, std::string>>& parameters) const {
  Url url = url_of(for_key);
  char separator = '?';
  for (const auto& [name, value] : parameters) {
    url.text += separator;
    url.text += text_of(name, "=", encode_value(value));
    separator = '&';
  }
  url.has_query = !parameters.empty();
  return url;
}

Call S3Place::call(Method method, Url to) const {
  Call call(base.origin);
  call.method = method;
  call.url = std::move(to);
  call.credentials_name = "s3";
  call.sigv4 = sigv4;
  return call;
}

}  // namespace flatbed::remote
