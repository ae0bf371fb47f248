#include "url_text.hpp"

#include <algorithm>

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

}  // namespace

bool is_url(std::string_view word) noexcept {
  const std::size_t end = word.find(kAfterScheme);
  if (end == std::string_view::npos || end == 0 || end + kAfterScheme.size() == word.size())
    return false;
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

}  // namespace flatbed::tool
