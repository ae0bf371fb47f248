#include "hub_list.hpp"

#include <algorithm>
#include <utility>

#include "flatbed/hub_listing.hpp"
#include "text.hpp"
#include "url.hpp"

namespace flatbed::remote {

namespace {

constexpr std::size_t kMaxNames = 100'000;
constexpr std::size_t kMaxPages = 1'000;
constexpr std::size_t kMaxPage = 16 << 20;

Result<Call> get(const Transport& transport, Url url) {
  Call call;
  call.url = std::move(url);
  call.body_limit = kMaxPage;
  FLATBED_TRY(transport.run({&call, 1}));
  return call;
}

// Of the first request: there may be no API at all, and a page for people instead.
bool is_refusal(const Error& error) {
  return error.code == ErrorCode::permission_denied || error.code == ErrorCode::file_not_found ||
         error.code == ErrorCode::http_status || error.code == ErrorCode::http_protocol;
}

Result<std::string> commit_of(const Transport& transport, const HubPlace& place) {
  FLATBED_ASSIGN(Url url, parse_url(text_of(place.api, "/revision/", place.revision)));
  FLATBED_ASSIGN(const Call call, get(transport, std::move(url)));
  return parse_hub_commit(call.text);
}

// From the page at `url` on. Another host than the hub's is not asked.
Result<Url> next_page(const Url& url, const Call& page) {
  const std::string_view link = next_link(page.head.find("link"));
  if (link.empty()) return Url{};
  const Url& base = page.final_url.text.empty() ? url : page.final_url;
  FLATBED_ASSIGN(Url next, resolve_redirect(base, link));
  if (next.origin != url.origin && next.origin != base.origin)
    return error_of(ErrorCode::http_protocol, "the list continues at ", shown(next.origin));
  if (next.text == url.text)
    return error_of(ErrorCode::http_protocol, "the list continues with the same page");
  return next;
}

Result<void> add_names(const Call& page, std::string_view prefix, std::vector<std::string>& names) {
  FLATBED_ASSIGN(const std::vector<std::string> files, parse_hub_files(page.text));
  for (const std::string& path : files) {
    if (path.size() > prefix.size() && path.starts_with(prefix))
      names.push_back(path.substr(prefix.size()));
  }
  if (names.size() <= kMaxNames) return {};
  return error_of(ErrorCode::limit_exceeded, "more than ", kMaxNames, " files, the limit");
}

}  // namespace

Result<std::optional<HubList>> list_hub(const Transport& transport, const HubPlace& place) {
  Result<std::string> commit = commit_of(transport, place);
  if (!commit && is_refusal(commit.error())) return std::optional<HubList>();
  if (!commit) return std::move(commit).error();
  HubList list{*std::move(commit), {}};
  const std::string prefix = decode_path(place.below);
  std::string folder = text_of(place.api, "/tree/", list.commit, "/", place.below);
  folder.pop_back();  // the slash
  FLATBED_ASSIGN(Url url, parse_url(folder));
  for (std::size_t pages = 0; !url.text.empty(); ++pages) {
    if (pages == kMaxPages)
      return error_of(ErrorCode::limit_exceeded, "more than ", kMaxPages, " pages, the limit");
    FLATBED_ASSIGN(const Call page, get(transport, url));
    FLATBED_TRY(add_names(page, prefix, list.names));
    FLATBED_ASSIGN(url, next_page(url, page));
  }
  return std::optional<HubList>(std::move(list));
}

std::string_view next_link(std::string_view header) {
  for (std::size_t begin = header.find('<'); begin != header.npos;) {
    const std::size_t end = header.find('>', begin);
    if (end == header.npos) return {};
    const std::size_t next = header.find('<', end);
    const std::string_view parameters = header.substr(end, std::min(next, header.size()) - end);
    if (parameters.find("rel=\"next\"") != parameters.npos ||
        parameters.find("rel=next") != parameters.npos)
      return header.substr(begin + 1, end - begin - 1);
    begin = next;
  }
  return {};
}

}  // namespace flatbed::remote
