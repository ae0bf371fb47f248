#include "aws_settings.hpp"

#include <array>
#include <optional>
#include <utility>

#include "ini_file.hpp"

namespace flatbed::tool {
namespace {

using Section = IniFile::Section;

// The sections of one profile in the two files; null where a file has none.
class Profile {
 public:
  static Result<Profile> read(const Variables& variables);

  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  [[nodiscard]] const Section* credentials() const { return credentials_.find(name_); }
  [[nodiscard]] const Section* config() const {
    const Section* section = config_.find("profile " + name_);
    return section == nullptr && name_ == "default" ? config_.find(name_) : section;
  }
  [[nodiscard]] const Section* services() const {
    const std::optional<std::string> services = value_of(config(), "services");
    return services ? config_.find("services " + *services) : nullptr;
  }
  // Of the first file that has it.
  [[nodiscard]] std::optional<std::string> find(std::string_view key) const {
    std::optional<std::string> value = value_of(credentials(), key);
    return value ? value : value_of(config(), key);
  }

 private:
  std::string name_;
  IniFile credentials_;
  IniFile config_;
};

Result<Profile> Profile::read(const Variables& variables) {
  Profile profile;
  const std::optional<std::string> chosen =
      first_of(variables, {"AWS_PROFILE", "AWS_DEFAULT_PROFILE"});
  profile.name_ = chosen.value_or("default");
  const auto path_of = [&](const char* name, const char* usual) {
    return below_home(variables, variables(name).value_or(usual));
  };
  FLATBED_ASSIGN(profile.credentials_,
                 IniFile::read(path_of("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")));
  FLATBED_ASSIGN(profile.config_, IniFile::read(path_of("AWS_CONFIG_FILE", "~/.aws/config")));
  if (chosen && profile.credentials() == nullptr && profile.config() == nullptr) {
    return Error{ErrorCode::invalid_argument, "AWS_PROFILE: there is no profile '" + *chosen +
                                                  "' in the AWS credentials and config files"};
  }
  return profile;
}

// The keys of one place.
struct Keys {
  std::optional<std::string> id;
  std::optional<std::string> secret;
  std::optional<std::string> token;
};

// Whether there are keys. Errors: one without the other.
Result<bool> take_keys(Keys keys, const std::string& place, AwsSettings& settings) {
  if (!keys.id && !keys.secret) return false;
  if (!keys.id || !keys.secret) {
    return Error{ErrorCode::invalid_argument,
                 place + (keys.id ? ": found an access key ID without its secret access key"
                                  : ": found a secret access key without its access key ID")};
  }
  settings.access_key_id = *std::move(keys.id);
  settings.secret_access_key = *std::move(keys.secret);
  settings.session_token = std::move(keys.token).value_or("");
  return true;
}

Result<bool> take_section(const Section* section, const std::string& place, AwsSettings& settings) {
  return take_keys(
      {value_of(section, "aws_access_key_id"), value_of(section, "aws_secret_access_key"),
       value_of(section, "aws_session_token")},
      place, settings);
}

// Keys that the files do not hold are named, rather than asking without any.
Result<void> check_other_ways(const Profile& profile) {
  constexpr std::array kOtherWays{
      "credential_process",      "role_arn",          "sso_session",  "sso_start_url",
      "web_identity_token_file", "credential_source", "login_session"};
  for (const char* key : kOtherWays) {
    if (!profile.find(key)) continue;
    return Error{ErrorCode::invalid_argument,
                 "AWS profile '" + profile.name() + "': its keys come from " + key +
                     ", which flatbed does not use; set AWS_ACCESS_KEY_ID, "
                     "AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, as `aws configure "
                     "export-credentials --format env` prints them"};
  }
  return {};
}

Result<void> read_keys(const Variables& variables, const Profile& profile, AwsSettings& settings) {
  FLATBED_ASSIGN(const bool of_variables,
                 take_keys({variables("AWS_ACCESS_KEY_ID"), variables("AWS_SECRET_ACCESS_KEY"),
                            variables("AWS_SESSION_TOKEN")},
                           "environment variables AWS_*", settings));
  if (of_variables) return {};
  const std::string place = "AWS profile '" + profile.name() + "'";
  FLATBED_ASSIGN(const bool of_credentials, take_section(profile.credentials(), place, settings));
  if (of_credentials) return {};
  FLATBED_ASSIGN(const bool of_config, take_section(profile.config(), place, settings));
  if (of_config) return {};
  return check_other_ways(profile);
}

std::string find_endpoint(const Variables& variables, const Profile& profile) {
  if (std::optional<std::string> value =
          first_of(variables, {"AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"}))
    return *std::move(value);
  if (variables("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") == "true") return {};
  if (std::optional<std::string> value = value_of(profile.services(), "s3.endpoint_url"))
    return *std::move(value);
  return profile.find("endpoint_url").value_or("");
}

}  // namespace

Result<AwsSettings> read_aws_settings(const Variables& variables) {
  AwsSettings settings;
  FLATBED_ASSIGN(const Profile profile, Profile::read(variables));
  FLATBED_TRY(read_keys(variables, profile, settings));
  const std::optional<std::string> region =
      first_of(variables, {"AWS_REGION", "AWS_DEFAULT_REGION"});
  settings.region = region ? *region : profile.find("region").value_or("");
  settings.endpoint = find_endpoint(variables, profile);
  settings.path_style = profile.find("s3.addressing_style") == "path";
  const std::optional<std::string> bundle = variables("AWS_CA_BUNDLE");
  settings.ca_bundle =
      below_home(variables, bundle ? *bundle : profile.find("ca_bundle").value_or(""));
  return settings;
}

}  // namespace flatbed::tool
