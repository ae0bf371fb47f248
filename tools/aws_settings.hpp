// AwsSettings: how to reach S3, from where the AWS command line has it: the variables AWS_*, and
// the profiles in ~/.aws/credentials and ~/.aws/config. Plain data.
//
// A variable counts before a profile, and the credentials file before the config file. Keys come
// from one place: those of the variables are never mixed with those of a file.
#pragma once

#include <filesystem>
#include <string>

#include "flatbed/result.hpp"
#include "variables.hpp"

namespace flatbed::tool {

struct AwsSettings {
  // All empty: requests are anonymous.
  std::string access_key_id;
  std::string secret_access_key;
  std::string session_token;
  std::string region;    // empty: not stated
  std::string endpoint;  // "http://127.0.0.1:9000"; empty: Amazon's
  bool path_style = false;
  std::filesystem::path ca_bundle;  // empty: the system's alone
};

// Reads AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_PROFILE, AWS_REGION,
// AWS_DEFAULT_REGION, AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, AWS_CA_BUNDLE,
// AWS_SHARED_CREDENTIALS_FILE, AWS_CONFIG_FILE, AWS_IGNORE_CONFIGURED_ENDPOINT_URLS and HOME. Keys
// that only a program or a service could give (SSO, roles, credential_process) are no keys here.
// Errors: invalid_argument: a key without its secret, a profile that does not exist or whose keys
// cannot be read from a file; those of IniFile::read(). No message contains a value that may be a
// secret.
[[nodiscard]] Result<AwsSettings> read_aws_settings(const Variables& variables);

}  // namespace flatbed::tool
