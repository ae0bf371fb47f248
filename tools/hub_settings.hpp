// HubSettings: how to reach the Hub of hf:// URLs, from where its own library has it: HF_TOKEN, or
// the file that `hf auth login` writes; HF_ENDPOINT. Plain data.
#pragma once

#include <string>

#include "flatbed/result.hpp"
#include "variables.hpp"

namespace flatbed::tool {

struct HubSettings {
  std::string token;     // empty: requests are anonymous
  std::string endpoint;  // empty: the Hub's own
};

// Reads HF_TOKEN, HF_TOKEN_PATH, HF_HOME, XDG_CACHE_HOME, HOME, HF_HUB_DISABLE_IMPLICIT_TOKEN and
// HF_ENDPOINT. Errors: invalid_argument (a token of more than a line), those of read_small_file().
[[nodiscard]] Result<HubSettings> read_hub_settings(const Variables& variables);

}  // namespace flatbed::tool
