#include "hub_settings.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>
#include <utility>

#include "ini_file.hpp"

namespace flatbed::tool {
namespace {

std::filesystem::path token_path(const Variables& variables) {
  if (const std::optional<std::string> path = variables("HF_TOKEN_PATH"))
    return below_home(variables, *path);
  std::string home;
  if (const std::optional<std::string> chosen = variables("HF_HOME")) {
    home = *chosen;
  } else {
    home = variables("XDG_CACHE_HOME").value_or("~/.cache") + "/huggingface";
  }
  return below_home(variables, home + "/token");
}

bool is_set(const std::optional<std::string>& value) {
  constexpr std::array<std::string_view, 4> kYes{"1", "on", "yes", "true"};
  if (!value) return false;
  std::string lower = *value;
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return std::ranges::find(kYes, lower) != kYes.end();
}

// A token goes into a header line.
Result<std::string> check_token(std::string token, const std::string& place) {
  constexpr std::string_view kBlanks = " \t\r\n";
  token.erase(0, std::min(token.find_first_not_of(kBlanks), token.size()));
  token.erase(token.find_last_not_of(kBlanks) + 1);
  const bool one_word = std::ranges::all_of(token, [](char c) { return c > ' ' && c < '\x7f'; });
  if (one_word) return token;
  return Error{ErrorCode::invalid_argument, place + ": found more than one word, expected a token"};
}

Result<std::string> find_token(const Variables& variables) {
  if (std::optional<std::string> token =
          first_of(variables, {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"}))
    return check_token(*std::move(token), "HF_TOKEN");
  if (is_set(variables("HF_HUB_DISABLE_IMPLICIT_TOKEN"))) return std::string();
  const std::filesystem::path path = token_path(variables);
  FLATBED_ASSIGN(std::optional<std::string> token, read_small_file(path));
  return check_token(std::move(token).value_or(""), path.native());
}

}  // namespace

Result<HubSettings> read_hub_settings(const Variables& variables) {
  HubSettings settings;
  FLATBED_ASSIGN(settings.token, find_token(variables));
  settings.endpoint = variables("HF_ENDPOINT").value_or("");
  return settings;
}

}  // namespace flatbed::tool
