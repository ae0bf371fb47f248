#include "url_text.hpp"

#include <algorithm>
#include <charconv>
#include <optional>

namespace flatbed::tool {
namespace {

constexpr std::string_view kAfterScheme = "://";

bool is_letter(char c) noexcept { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

// "a=1&b=2" becomes "a=...&b=...": presigned URLs have their signatures there.
std::string shown_query(std::string_view query) {
  std::string shown;
  while (!query.empty()) {
    const std::string_view pair = query.substr(0, query.find('&'));
    const std::size_t equals = pair.find('=');
    shown += equals == std::string_view::npos ? "..." : pair.substr(0, equals + 1);
    if (equals != std::string_view::npos) shown += "...";
    query.remove_prefix(std::min(pair.size() + 1, query.size()));
    if (!query.empty()) shown += '&';
  }
  return shown;
}

// What stands between the scheme and a query or fragment.
std::string_view place_of(std::string_view url) {
  url.remove_prefix(url.find(kAfterScheme) + kAfterScheme.size());
  return url.substr(0, url.find_first_of("?#"));
}

std::optional<unsigned char> hex_byte(std::string_view digits) {
  unsigned char byte = 0;
  const auto [stop, failed] =
      std::from_chars(digits.data(), digits.data() + digits.size(), byte, 16);
  if (digits.size() != 2 || failed != std::errc() || stop != digits.data() + 2) return std::nullopt;
  return byte;
}

// Decodes "%2B"; nullopt if the result could not be the name of a file.
std::optional<std::string> decoded(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    const std::optional<unsigned char> byte = hex_byte(text.substr(i + 1, 2));
    if (!byte || *byte == 0 || *byte == '/') return std::nullopt;
    out += static_cast<char>(*byte);
    i += 2;
  }
  if (out == "." || out == "..") return std::nullopt;
  return out;
}

}  // namespace

bool is_url(std::string_view word) noexcept {
  const std::size_t end = word.find(kAfterScheme);
  if (end == std::string_view::npos || end == 0) return false;
  const std::string_view scheme = word.substr(0, end);
  return is_letter(scheme[0]) && std::ranges::all_of(scheme, [](char c) {
           return is_letter(c) || (c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.';
         });
}

std::string shown_url(std::string_view url) {
  const std::size_t host = url.find(kAfterScheme) + kAfterScheme.size();
  std::string shown(url.substr(0, host));
  std::string_view rest = url.substr(host);
  const std::string_view authority = rest.substr(0, rest.find_first_of("/?#"));
  if (const std::size_t at = authority.rfind('@'); at != std::string_view::npos) {
    shown += "...@";
    rest.remove_prefix(at + 1);
  }
  const std::size_t query = rest.find('?');
  shown += rest.substr(0, query);
  if (query == std::string_view::npos) return shown;
  return shown + "?" + shown_query(rest.substr(query + 1));
}

std::string url_name(std::string_view url) {
  const bool is_hub = url.starts_with("hf://");
  std::string_view place = place_of(url);
  while (place.ends_with('/')) place.remove_suffix(1);
  std::string_view name = place.substr(place.rfind('/') + 1);  // npos + 1 is 0
  if (is_hub && std::ranges::count(place, '/') < 2) name = name.substr(0, name.find('@'));
  return decoded(name).value_or(std::string(name));
}

bool is_folder_url(std::string_view url) noexcept {
  const std::string_view place = place_of(url);
  return place.ends_with('/') || place.find('/') == std::string_view::npos ||
         (url.starts_with("hf://") && std::ranges::count(place, '/') < 2);
}

}  // namespace flatbed::tool
