// What S3 answers in XML: errors, lists of keys. Values; pure functions.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "flatbed/error.hpp"
#include "flatbed/result.hpp"
#include "http.hpp"

namespace flatbed::remote {

// <Error><Code>NoSuchKey</Code><Message>...</Message></Error>
struct S3Error {
  std::string code;
  std::string message;
  std::string region;  // that the bucket is in, where the request went to another

  // Whether the same request may succeed later.
  [[nodiscard]] bool transient() const;
  // Whether other credentials may help: those that were sent are too old.
  [[nodiscard]] bool expired() const;
};

// nullopt: the body is no such error.
[[nodiscard]] std::optional<S3Error> parse_s3_error(std::string_view body);

// The error of a status with the code of S3, which says more than the status; `fallback` where
// there is none. Says nothing of what was signed.
[[nodiscard]] Error s3_status_error(const AnswerHead& head, const std::optional<S3Error>& found,
                                    Error fallback);

// A page of ListObjectsV2.
struct S3List {
  std::vector<std::string> keys;
  std::vector<std::string> prefixes;  // of keys that go on after the delimiter; end with it
  std::string next;                   // the token of the next page; empty: there is none
};

// Errors: http_protocol.
[[nodiscard]] Result<S3List> parse_s3_list(std::string_view body);

}  // namespace flatbed::remote
