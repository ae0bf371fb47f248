// S3Place: where an object is: what s3://bucket/key means for an endpoint and a region. A value;
// pure functions.
//
//   s3://bucket/a/key            as the AWS command line takes it: the key is not percent-encoded
//   s3://bucket/key?versionId=x  one version of it
//   s3://bucket/prefix/          a folder
//
//   path style      https://endpoint/bucket/key       an endpoint of one's own, a bucket with dots
//   virtual host    https://bucket.s3.region.amazonaws.com/key
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "flatbed/remote.hpp"
#include "flatbed/result.hpp"
#include "transport.hpp"
#include "url.hpp"

namespace flatbed::remote {

struct S3Place {
  Url base;           // of the bucket; ends with "/"
  std::string label;  // "s3://bucket/"
  std::string sigv4;  // as CURLOPT_AWS_SIGV4
  std::string key;    // as its bytes are; empty: the whole bucket
  std::string version_id;

  // "s3://bucket/key", for messages.
  [[nodiscard]] std::string name() const { return label + key; }
  // Of the object, and of another one of the bucket.
  [[nodiscard]] Url url() const;
  [[nodiscard]] Url url_of(std::string_view other_key) const;
  // The request that `parameters` describe, of the object or the bucket. They must be in the order
  // of their names, which is what signatures need; names and values are not encoded.
  [[nodiscard]] Url url_with(
      std::string_view for_key,
      const std::vector<std::pair<std::string_view, std::string>>& parameters) const;

  // A request that is signed with the credentials of "s3", if there are some.
  [[nodiscard]] Call call(Method method, Url to) const;
};

[[nodiscard]] bool is_s3(std::string_view url);

// Errors: url_invalid (no bucket, a name that no bucket can have, a key that is too long or that
// libcurl would change: with a component "." or ".."), invalid_argument (the endpoint or region).
[[nodiscard]] Result<S3Place> place_s3(std::string_view url, const S3Options& options);

}  // namespace flatbed::remote
