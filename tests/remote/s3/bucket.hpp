// A server with the interface of S3, started by run_s3.py, which says in the environment where it
// is. Without it, tests are skipped.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "flatbed/remote.hpp"
#include "support/expect_error.hpp"

namespace flatbed::test {

inline std::string s3_endpoint() {
  const char* const value = std::getenv("FLATBED_S3_ENDPOINT");
  return value == nullptr ? std::string() : value;
}

#define FLATBED_NEED_S3() \
  if (::flatbed::test::s3_endpoint().empty()) GTEST_SKIP() << "there is no S3 server"

// The keys that run_s3.py gives the server.
struct S3Keys {
  std::string id = "AKIDFULL";
  std::string secret = "secretfull";
  std::string token = {};
};

inline RemoteOptions s3_options(const S3Keys& keys = {}) {
  RemoteOptions options;
  options.s3.endpoint = s3_endpoint();
  options.backoff = std::chrono::milliseconds(20);
  options.credentials = [keys](const CredentialsQuery& query) -> Result<RemoteCredentials> {
    RemoteCredentials credentials;
    if (query.origin != "s3") return credentials;
    credentials.access_key_id = keys.id;
    credentials.secret_access_key = keys.secret;
    credentials.session_token = keys.token;
    return credentials;
  };
  return options;
}

inline Remote s3_remote(const S3Keys& keys = {}) { return Remote::make(s3_options(keys)).value(); }

// Writes `text` as an object, replacing one that is there.
inline Result<void> put_object(const Remote& remote, const std::string& url,
                               std::string_view text) {
  FLATBED_ASSIGN(const auto sink, remote.create(url, {.replace = true}));
  FLATBED_TRY(sink->begin({text.size(), 0}));
  FLATBED_TRY(sink->write_at(0, std::as_bytes(std::span(text))));
  return sink->commit();
}

inline Result<std::string> get_object(const Remote& remote, const std::string& url) {
  FLATBED_ASSIGN(const auto source, remote.open_source(url));
  std::string text(source->size(), '\0');
  FLATBED_TRY(source->read_at(0, std::as_writable_bytes(std::span(text))));
  return text;
}

}  // namespace flatbed::test
