#include "http.hpp"

#include <algorithm>
#include <array>

#include "text.hpp"

namespace flatbed::remote {

std::string_view name_of(Method method) noexcept {
  constexpr std::array<std::string_view, 5> kNames{"GET", "HEAD", "PUT", "POST", "DELETE"};
  return kNames[static_cast<std::size_t>(method)];
}

std::string_view AnswerHead::find(std::string_view name) const noexcept {
  for (const Header& header : headers) {
    if (header.name == name) return header.value;
  }
  return {};
}

std::optional<ContentRange> parse_content_range(std::string_view value) noexcept {
  constexpr std::string_view kUnit = "bytes ";
  if (!value.starts_with(kUnit)) return std::nullopt;
  value.remove_prefix(kUnit.size());
  const std::size_t dash = value.find('-');
  const std::size_t slash = value.find('/');
  if (dash == value.npos || slash == value.npos || slash < dash) return std::nullopt;
  const auto first = number_of(value.substr(0, dash));
  const auto last = number_of(value.substr(dash + 1, slash - dash - 1));
  if (!first || !last || *last < *first) return std::nullopt;
  ContentRange range{*first, *last, std::nullopt};
  const std::string_view total = value.substr(slash + 1);
  if (total == "*") return range;
  range.total = number_of(total);
  if (!range.total || *range.total <= *last) return std::nullopt;
  return range;
}

namespace {

// What goes into later requests is plain text of a sensible length, or it does not count.
std::string plain(std::string_view value) {
  constexpr std::size_t kMost = 1024;
  const bool fits = value.size() <= kMost &&
                    std::ranges::all_of(value, [](char c) { return c >= 0x20 && c < 0x7F; });
  return fits ? std::string(value) : std::string();
}

}  // namespace

Version Version::of(const AnswerHead& head) {
  return {plain(head.find("etag")), plain(head.find("last-modified"))};
}

std::string Version::condition() const {
  if (strong()) return text_of("If-Match: ", etag);
  // A weak ETag never matches there.
  if (!last_modified.empty()) return text_of("If-Unmodified-Since: ", last_modified);
  return {};
}

Result<void> Version::check(const AnswerHead& head) const {
  const Version found = of(head);
  if (!etag.empty() && found.etag != etag)
    return error_of(ErrorCode::file_changed, "the file changed on the server: found ETag ",
                    found.etag.empty() ? "none" : shown(found.etag), ", expected ", shown(etag));
  if (etag.empty() && !last_modified.empty() && found.last_modified != last_modified)
    return error_of(ErrorCode::file_changed, "the file changed on the server: found Last-Modified ",
                    found.last_modified.empty() ? "none" : shown(found.last_modified),
                    ", expected ", shown(last_modified));
  return {};
}

}  // namespace flatbed::remote
