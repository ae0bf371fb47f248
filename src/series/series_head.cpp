#include "series/series_head.hpp"

#include "base/ascii.hpp"
#include "base/json.hpp"
#include "base/str_cat.hpp"
#include "safetensors/seal.hpp"

namespace flatbed {

namespace {

using safetensors::kDigestDigits;

constexpr std::string_view kVersion = "/1/";
constexpr std::size_t kSealNbytes = 2 * kDigestDigits + kVersion.size();
constexpr std::string_view kNext = "\",\"flatbed.series\":";
constexpr JsonRules kRules{ErrorCode::series_malformed, ErrorCode::series_malformed,
                           ErrorCode::series_malformed, ErrorCode::series_malformed, 1};

// The JSON string that `text` begins with, in its quotes; empty if it does not end.
std::string_view first_string(std::string_view text) noexcept {
  if (!text.starts_with('"')) return {};
  for (std::size_t i = 1; i < text.size(); ++i) {
    if (text[i] == '"') return text.substr(0, i + 1);
    if (text[i] == '\\') ++i;
  }
  return {};
}

// <header>/1/<content>
bool is_seal(std::string_view text) noexcept {
  return text.size() == kSealNbytes && text.substr(kDigestDigits, kVersion.size()) == kVersion &&
         is_hex(text.substr(0, kDigestDigits)) && is_hex(text.substr(kSealNbytes - kDigestDigits));
}

}  // namespace

std::optional<SeriesHead> read_series_head(std::string_view first_bytes) {
  constexpr std::size_t kLengthNbytes = 8;
  std::string_view rest = first_bytes.substr(0, kSeriesHeadNbytes);
  const auto take = [&rest](std::size_t nbytes) {
    const std::string_view taken = rest.substr(0, nbytes);
    rest.remove_prefix(taken.size());
    return taken;
  };
  take(kLengthNbytes);
  if (take(safetensors::kSealEnvelope.size()) != safetensors::kSealEnvelope) return std::nullopt;
  const std::string_view seal = take(kSealNbytes);
  if (!is_seal(seal)) return std::nullopt;
  if (take(kNext.size()) != kNext) return std::nullopt;
  const std::string_view value = first_string(rest);
  if (value.empty()) return std::nullopt;
  const Result<JsonDocument> decoded = JsonDocument::parse_copy(value, kRules);
  if (!decoded || !decoded->root().is_string()) return std::nullopt;
  return SeriesHead{std::string(seal), std::string(seal.substr(kSealNbytes - kDigestDigits)),
                    std::string(decoded->root().text())};
}

}  // namespace flatbed
