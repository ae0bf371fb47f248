#include "s3_answer.hpp"

#include <algorithm>
#include <array>

#include "text.hpp"
#include "url.hpp"
#include "xml.hpp"

namespace flatbed::remote {

namespace {

struct CodeOfS3 {
  std::string_view name;
  ErrorCode code;
};

// Where the status alone would say less, or something else.
constexpr std::array kCodes{
    CodeOfS3{"NoSuchBucket", ErrorCode::file_not_found},
    CodeOfS3{"NoSuchKey", ErrorCode::file_not_found},
    CodeOfS3{"NoSuchVersion", ErrorCode::file_not_found},
    CodeOfS3{"AccessDenied", ErrorCode::permission_denied},
    CodeOfS3{"ExpiredToken", ErrorCode::permission_denied},
    CodeOfS3{"InvalidAccessKeyId", ErrorCode::permission_denied},
    CodeOfS3{"InvalidToken", ErrorCode::permission_denied},
    CodeOfS3{"SignatureDoesNotMatch", ErrorCode::permission_denied},
    CodeOfS3{"RequestTimeTooSkewed", ErrorCode::permission_denied},
};

// URL form encoding: "+" is a blank.
std::string decode_key(std::string text) {
  std::ranges::replace(text, '+', ' ');
  return decode_path(text);
}

}  // namespace

bool S3Error::transient() const {
  constexpr std::array<std::string_view, 8> kTransient{"ConditionalRequestConflict",
                                                       "SlowDown",
                                                       "InternalError",
                                                       "ServiceUnavailable",
                                                       "RequestTimeout",
                                                       "BadDigest",
                                                       "IncompleteBody",
                                                       "OperationAborted"};
  return std::ranges::find(kTransient, code) != kTransient.end();
}

bool S3Error::expired() const {
  return code == "ExpiredToken" || code == "InvalidToken" || code == "TokenRefreshRequired";
}

std::optional<S3Error> parse_s3_error(std::string_view body) {
  S3Error error;
  const Result<void> read = read_leaves(body, [&](std::string_view path, std::string_view text) {
    if (path == "Error/Code") error.code = text;
    if (path == "Error/Message") error.message = text;
    if (path == "Error/Region") error.region = text;
  });
  if (!read || error.code.empty()) return std::nullopt;
  return error;
}

Error s3_status_error(const AnswerHead& head, const std::optional<S3Error>& found, Error fallback) {
  std::string region(head.find("x-amz-bucket-region"));
  if (region.empty() && found) region = found->region;
  const bool elsewhere = head.status == 301 || (found && found->code == "PermanentRedirect") ||
                         (found && found->code == "AuthorizationHeaderMalformed");
  if (elsewhere && !region.empty())
    return error_of(ErrorCode::redirect_refused, "the bucket is in another region: found ",
                    shown(region), "; ask for that one");
  if (elsewhere)
    return error_of(ErrorCode::redirect_refused,
                    "the bucket is in another region, or has another endpoint: found status ",
                    head.status);
  if (!found) return fallback;
  const auto* const row = std::ranges::find(kCodes, found->code, &CodeOfS3::name);
  const ErrorCode code = row == kCodes.end() ? fallback.code : row->code;
  const std::string_view what = found->code == "NoSuchBucket"          ? "S3 has no such bucket"
                                : code == ErrorCode::permission_denied ? "S3 does not permit access"
                                : code == ErrorCode::file_not_found    ? "S3 has no such object"
                                : code == ErrorCode::file_changed ? "the file changed on the server"
                                                                  : "S3 answered with an error";
  return error_of(code, what, ": found status ", head.status, ", ", shown(found->code),
                  found->message.empty() ? "" : ": ",
                  found->message.empty() ? "" : shown(found->message));
}

Result<S3List> parse_s3_list(std::string_view body) {
  S3List list;
  bool is_list = false, truncated = false, encoded = false;
  FLATBED_TRY(read_leaves(body, [&](std::string_view path, std::string_view text) {
    constexpr std::string_view kRoot = "ListBucketResult/";
    if (!path.starts_with(kRoot)) return;
    is_list = true;
    path.remove_prefix(kRoot.size());
    if (path == "Contents/Key") list.keys.emplace_back(text);
    if (path == "CommonPrefixes/Prefix") list.prefixes.emplace_back(text);
    if (path == "IsTruncated") truncated = text == "true";
    if (path == "EncodingType") encoded = text == "url";
    if (path == "NextContinuationToken") list.next = text;
  }));
  if (!is_list)
    return error_of(ErrorCode::http_protocol,
                    "the answer is not a list of keys: expected XML with ListBucketResult");
  if (truncated && list.next.empty())
    return error_of(ErrorCode::http_protocol,
                    "the list of keys is truncated and names no continuation");
  if (!truncated) list.next.clear();
  if (encoded) {
    for (std::string& key : list.keys) key = decode_key(std::move(key));
    for (std::string& prefix : list.prefixes) prefix = decode_key(std::move(prefix));
  }
  return list;
}

}  // namespace flatbed::remote
