#include "remote_environment.hpp"

#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "aws_settings.hpp"
#include "hub_settings.hpp"

namespace flatbed::tool {
namespace {

// "https://host:port" of a URL as the library writes it: in lower case, and without the port that
// the scheme implies.
std::string origin_of(const std::string& url) {
  const std::size_t scheme = url.find("://");
  if (scheme == std::string::npos) return url;
  std::string origin = url.substr(0, url.find_first_of("/?", scheme + 3));
  for (char& c : origin) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  const std::string_view usual = origin.starts_with("http:") ? ":80" : ":443";
  if (origin.ends_with(usual)) origin.resize(origin.size() - usual.size());
  return origin;
}

// Some systems name a file that they do not have, so that nothing is trusted by mistake.
std::string existing_file(std::string path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored) ? std::move(path) : std::string();
}

// The variables that curl reads, as it reads them. HTTP_PROXY is not one: in a program that a web
// server starts it can be a header that somebody sent.
void set_proxies(const Variables& variables, RemoteOptions& options) {
  const std::string all = first_of(variables, {"all_proxy", "ALL_PROXY"}).value_or("");
  options.proxy = first_of(variables, {"https_proxy", "HTTPS_PROXY"}).value_or(all);
  options.http_proxy = variables("http_proxy").value_or(all);
  options.no_proxy = first_of(variables, {"no_proxy", "NO_PROXY"}).value_or("");
}

RemoteCredentials credentials_of(const AwsSettings& settings) {
  RemoteCredentials credentials;
  credentials.access_key_id = settings.access_key_id;
  credentials.secret_access_key = settings.secret_access_key;
  credentials.session_token = settings.session_token;
  return credentials;
}

}  // namespace

RemoteOptions remote_options_from_environment(const Variables& variables) {
  RemoteOptions options;
  options.system_ca_file = existing_file(variables("SSL_CERT_FILE").value_or(""));
  options.system_ca_dir = variables("SSL_CERT_DIR").value_or("");
  set_proxies(variables, options);
  const Result<AwsSettings> aws = read_aws_settings(variables);
  if (aws) {
    options.s3.region = aws->region;
    options.s3.endpoint = aws->endpoint;
    if (aws->path_style) options.s3.addressing = S3Addressing::path;
    options.ca_file = aws->ca_bundle;
  }
  const Result<HubSettings> hub = read_hub_settings(variables);
  if (hub && !hub->endpoint.empty()) options.hub_endpoint = hub->endpoint;
  options.credentials = [variables, aws, hub, hub_origin = origin_of(options.hub_endpoint)](
                            const CredentialsQuery& query) -> Result<RemoteCredentials> {
    if (query.origin == "s3") {
      FLATBED_ASSIGN(const AwsSettings settings,
                     query.refused ? read_aws_settings(variables) : aws);
      return credentials_of(settings);
    }
    RemoteCredentials credentials;
    if (query.origin != hub_origin) return credentials;
    if (!hub) return hub.error();
    credentials.bearer_token = hub->token;
    return credentials;
  };
  return options;
}

}  // namespace flatbed::tool
