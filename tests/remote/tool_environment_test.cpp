// What the tool reads of the AWS command line's and the Hub's variables and files.
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "support/expect_error.hpp"
#include "support/temp_dir.hpp"
#include "tools/aws_settings.hpp"
#include "tools/hub_settings.hpp"
#include "tools/ini_file.hpp"
#include "tools/remote_environment.hpp"

namespace flatbed::tool {
namespace {

using test::TempDir;
using test::write_file;

Variables variables_of(std::map<std::string, std::string> values) {
  return [values = std::move(values)](const char* name) -> std::optional<std::string> {
    const auto found = values.find(name);
    if (found == values.end()) return std::nullopt;
    return found->second;
  };
}

// A home folder with the two files of AWS.
class Home {
 public:
  Home(std::string_view credentials, std::string_view config) {
    std::filesystem::create_directories(dir_ / ".aws");
    write_file(dir_ / ".aws/credentials", credentials);
    write_file(dir_ / ".aws/config", config);
  }
  [[nodiscard]] Result<AwsSettings> read(std::map<std::string, std::string> values = {}) const {
    values.emplace("HOME", (dir_ / "").native());
    return read_aws_settings(variables_of(std::move(values)));
  }
  [[nodiscard]] const TempDir& dir() const { return dir_; }

 private:
  TempDir dir_;
};

constexpr const char* kCredentials =
    "# keys\n"
    "[default]\n"
    "aws_access_key_id = AKIDDEFAULT\n"
    "AWS_SECRET_ACCESS_KEY=se=cret/+\r\n"
    "\n"
    "[team a]\n"
    "aws_access_key_id: no\n"
    "aws_access_key_id = AKIDTEAM\n"
    "aws_secret_access_key = teamsecret\n"
    "aws_session_token = teamtoken\n";
constexpr const char* kConfig =
    "[default]\n"
    "region = eu-central-1\n"
    "; another comment\n"
    "[profile \"team a\"]\n"
    "region = ap-south-1\n"
    "services = local\n"
    "s3 =\n"
    "  max_concurrent_requests = 20\n"
    "  addressing_style = path\n"
    "[services local]\n"
    "s3 =\n"
    "    endpoint_url = http://127.0.0.1:9000\n"
    "[profile sso]\n"
    "sso_session = corp\n"
    "[profile inline]\n"
    "aws_access_key_id = AKIDINLINE\n"
    "aws_secret_access_key = inlinesecret\n";

std::string without(std::string text, std::string_view line) {
  const std::size_t at = text.find(line);
  return text.erase(at, line.size());
}

TEST(AwsSettings, TheDefaultProfileIsRead) {
  const Home home(without(kCredentials, "aws_access_key_id: no\n"), kConfig);
  const auto settings = home.read();
  ASSERT_OK(settings);
  EXPECT_EQ(settings->access_key_id, "AKIDDEFAULT");
  EXPECT_EQ(settings->secret_access_key, "se=cret/+");
  EXPECT_EQ(settings->session_token, "");
  EXPECT_EQ(settings->region, "eu-central-1");
  EXPECT_EQ(settings->endpoint, "");
  EXPECT_FALSE(settings->path_style);
}

TEST(AwsSettings, AProfileHasSectionsInBothFiles) {
  const Home home(without(kCredentials, "aws_access_key_id: no\n"), kConfig);
  const auto settings = home.read({{"AWS_PROFILE", "team a"}});
  ASSERT_OK(settings);
  EXPECT_EQ(settings->access_key_id, "AKIDTEAM");
  EXPECT_EQ(settings->session_token, "teamtoken");
  EXPECT_EQ(settings->region, "ap-south-1");
  EXPECT_EQ(settings->endpoint, "http://127.0.0.1:9000");
  EXPECT_TRUE(settings->path_style);
  EXPECT_EQ(home.read({{"AWS_PROFILE", "inline"}}).value().access_key_id, "AKIDINLINE");
}

TEST(AwsSettings, VariablesCountBeforeProfilesAndKeysAreNotMixed) {
  const Home home(without(kCredentials, "aws_access_key_id: no\n"), kConfig);
  const auto settings = home.read({{"AWS_PROFILE", "team a"},
                                   {"AWS_ACCESS_KEY_ID", "AKIDENV"},
                                   {"AWS_SECRET_ACCESS_KEY", "envsecret"},
                                   {"AWS_DEFAULT_REGION", "us-west-1"},
                                   {"AWS_REGION", "us-west-2"},
                                   {"AWS_ENDPOINT_URL", "http://general"},
                                   {"AWS_ENDPOINT_URL_S3", "http://s3"},
                                   {"AWS_CA_BUNDLE", "~/ca.pem"}});
  ASSERT_OK(settings);
  EXPECT_EQ(settings->access_key_id, "AKIDENV");
  EXPECT_EQ(settings->session_token, "");
  EXPECT_EQ(settings->region, "us-west-2");
  EXPECT_EQ(settings->endpoint, "http://s3");
  EXPECT_EQ(settings->ca_bundle.filename(), "ca.pem");
  EXPECT_EQ(home.read({{"AWS_PROFILE", "team a"}, {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true"}})
                .value()
                .endpoint,
            "");
}

TEST(AwsSettings, FilesMayLieElsewhereOrNotExist) {
  const TempDir dir;
  write_file(dir / "keys", "[default]\naws_access_key_id=A\naws_secret_access_key=B\n");
  const auto settings =
      read_aws_settings(variables_of({{"AWS_SHARED_CREDENTIALS_FILE", (dir / "keys").native()},
                                      {"AWS_CONFIG_FILE", (dir / "none").native()}}));
  ASSERT_OK(settings);
  EXPECT_EQ(settings->access_key_id, "A");
  const auto nothing = read_aws_settings(variables_of({{"HOME", (dir / "none").native()}}));
  ASSERT_OK(nothing);
  EXPECT_EQ(nothing->access_key_id, "");
}

TEST(AwsSettings, WhatIsWrongIsNamedWithoutSecrets) {
  const Home home(kCredentials, kConfig);
  const auto no_equals = home.read();
  ASSERT_FALSE(no_equals);
  EXPECT_EQ(no_equals.error().code, ErrorCode::invalid_argument);
  EXPECT_NE(no_equals.error().message.find(".aws/credentials: line 7: found no '='"),
            std::string::npos)
      << no_equals.error().message;
  const Home good(without(kCredentials, "aws_access_key_id: no\n"), kConfig);
  EXPECT_ERROR(good.read({{"AWS_PROFILE", "nobody"}}), invalid_argument);
  const auto sso = good.read({{"AWS_PROFILE", "sso"}});
  ASSERT_FALSE(sso);
  EXPECT_NE(sso.error().message.find("sso_session"), std::string::npos);
  const auto half = good.read({{"AWS_SECRET_ACCESS_KEY", "topsecret"}});
  ASSERT_FALSE(half);
  EXPECT_EQ(half.error().message.find("topsecret"), std::string::npos);
}

TEST(IniFile, RefusesWhatIsNoLineOfIt) {
  for (const char* text :
       {"key = value\n", "[open\nkey = value\n", "[s]\n= value\n", "[s]\nword\n"})
    EXPECT_ERROR(IniFile::parse(text, "file"), invalid_argument) << text;
  EXPECT_OK(IniFile::parse("[s]\nkey = value\n  continued\n", "file"));
  EXPECT_OK(IniFile::parse("", "file"));
}

TEST(HubSettings, TheTokenComesFromTheVariableOrTheFile) {
  const TempDir dir;
  std::filesystem::create_directories(dir / "hub");
  write_file(dir / "hub/token", "hf_file\n");
  const std::string home = (dir / "hub").native();
  EXPECT_EQ(read_hub_settings(variables_of({{"HF_HOME", home}})).value().token, "hf_file");
  EXPECT_EQ(
      read_hub_settings(variables_of({{"HF_HOME", home}, {"HF_TOKEN", " hf_var "}})).value().token,
      "hf_var");
  EXPECT_EQ(
      read_hub_settings(variables_of({{"HF_HOME", home}, {"HF_HUB_DISABLE_IMPLICIT_TOKEN", "YES"}}))
          .value()
          .token,
      "");
  EXPECT_EQ(read_hub_settings(variables_of({{"HOME", home}})).value().token, "");
  EXPECT_ERROR(read_hub_settings(variables_of({{"HF_TOKEN", "a\nInjected: b"}})), invalid_argument);
}

TEST(RemoteEnvironment, EachOriginGetsItsOwnCredentials) {
  const RemoteOptions options =
      remote_options_from_environment(variables_of({{"HF_TOKEN", "hf_x"},
                                                    {"HF_ENDPOINT", "https://hub.example/base"},
                                                    {"AWS_ACCESS_KEY_ID", "AKID"},
                                                    {"AWS_SECRET_ACCESS_KEY", "secret"},
                                                    {"AWS_REGION", "eu-west-3"}}));
  EXPECT_EQ(options.hub_endpoint, "https://hub.example/base");
  EXPECT_EQ(options.s3.region, "eu-west-3");
  EXPECT_EQ(options.credentials({"https://hub.example"}).value().bearer_token, "hf_x");
  EXPECT_EQ(options.credentials({"s3"}).value().access_key_id, "AKID");
  EXPECT_EQ(options.credentials({"https://other.example"}).value(), RemoteCredentials{});
}

TEST(RemoteEnvironment, CertificatesOfTheSystemMayBeElsewhere) {
  const test::TempDir dir;
  test::write_file(dir / "ca.pem", "");
  const auto options = remote_options_from_environment(
      variables_of({{"SSL_CERT_FILE", dir / "ca.pem"}, {"SSL_CERT_DIR", "/one:/two"}}));
  EXPECT_EQ(options.system_ca_file, dir / "ca.pem");
  EXPECT_EQ(options.system_ca_dir, "/one:/two");
}

TEST(RemoteEnvironment, AFileOfCertificatesThatDoesNotExistIsNone) {
  const auto options =
      remote_options_from_environment(variables_of({{"SSL_CERT_FILE", "/no-cert-file.crt"}}));
  EXPECT_EQ(options.system_ca_file, "");
}

TEST(RemoteEnvironment, ProxiesAreThoseThatCurlTakes) {
  const RemoteOptions none = remote_options_from_environment(variables_of({}));
  EXPECT_EQ(none.proxy, "");
  EXPECT_EQ(none.http_proxy, "");
  const RemoteOptions one = remote_options_from_environment(variables_of(
      {{"https_proxy", "a:1"}, {"HTTPS_PROXY", "b:1"}, {"HTTP_PROXY", "c:1"}, {"NO_PROXY", "d"}}));
  EXPECT_EQ(one.proxy, "a:1");
  EXPECT_EQ(one.http_proxy, "");
  EXPECT_EQ(one.no_proxy, "d");
  const RemoteOptions all = remote_options_from_environment(
      variables_of({{"ALL_PROXY", "a:1"}, {"http_proxy", "b:1"}, {"no_proxy", "c"}}));
  EXPECT_EQ(all.proxy, "a:1");
  EXPECT_EQ(all.http_proxy, "b:1");
  EXPECT_EQ(all.no_proxy, "c");
}

TEST(RemoteEnvironment, TheHubMayBeSpelledInOtherWays) {
  for (const std::string endpoint :
       {"https://Hub.Example/base", "HTTPS://hub.example:443/", "https://hub.example:443"}) {
    const RemoteOptions options = remote_options_from_environment(
        variables_of({{"HF_TOKEN", "hf_x"}, {"HF_ENDPOINT", endpoint}}));
    EXPECT_EQ(options.credentials({"https://hub.example"}).value().bearer_token, "hf_x")
        << endpoint;
  }
  const RemoteOptions other = remote_options_from_environment(
      variables_of({{"HF_TOKEN", "hf_x"}, {"HF_ENDPOINT", "https://hub.example:8443"}}));
  EXPECT_EQ(other.credentials({"https://hub.example"}).value().bearer_token, "");
  EXPECT_EQ(other.credentials({"https://hub.example:8443"}).value().bearer_token, "hf_x");
}

TEST(RemoteEnvironment, AWrongSettingOnlyMattersWhereItIsNeeded) {
  const RemoteOptions options =
      remote_options_from_environment(variables_of({{"AWS_ACCESS_KEY_ID", "AKID"}}));
  EXPECT_ERROR(options.credentials({"s3"}), invalid_argument);
  EXPECT_OK(options.credentials({"https://huggingface.co"}));
}

}  // namespace
}  // namespace flatbed::tool
