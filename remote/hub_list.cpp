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

// Credentials are the hub's, whichever server is asked for a page. A server without the API may say
// so with 405 or 501.
Result<Call> get(const Transport& transport, const Url& url, const std::string& hub_origin) {
  Call call(hub_origin);
  call.url = url;
  call.body_limit = kMaxPage;
  call.accept = {405, 501};
  FLATBED_TRY(transport.run({&call, 1}));
  return call;
}

// There may be no API, or a page for people in its place. Anything else, such as a server that has
// too much to do, is an error: the hub may have the list.
bool is_refusal(const Result<Call>& answer) {
  if (!answer)
    return answer.error().code == ErrorCode::permission_denied ||
           answer.error().code == ErrorCode::file_not_found;
  const std::size_t first = answer->text.find_first_not_of(" \t\r\n");
  const bool is_json =
      first != std::string::npos && (answer->text[first] == '{' || answer->text[first] == '[');
  return answer->head.status >= 300 || !is_json;
}

// From the page at `url` on; of no text if it is the last one. Only the hub, and a host that it
// redirected to, may be asked.
Result<Url> next_page(const Url& url, const Call& page) {
  const std::string_view link = next_link(page.head.find("link"));
  if (link.empty()) return Url{};
  const Url& base = page.final_url.text.empty() ? url : page.final_url;
  Result<Url> next = resolve_url(base, link);
  if (!next && next.error().code == ErrorCode::url_invalid)
    return error_of(ErrorCode::http_protocol, "the link to the next page: ", next.error().message);
  if (!next) return next;
  if (next->origin != page.home && next->origin != base.origin)
    return error_of(ErrorCode::http_protocol, "the list continues at ", shown(next->origin));
  if (next->text == url.text)
    return error_of(ErrorCode::http_protocol, "the list continues with the same page");
  return next;
}

void add_below(std::string_view prefix, const std::vector<std::string>& paths,
               std::vector<std::string>& names) {
  for (const std::string& path : paths) {
    if (path.size() > prefix.size() && path.starts_with(prefix))
      names.push_back(path.substr(prefix.size()));
  }
}

Result<void> add_page(const Call& page, std::string_view prefix, HubList& list) {
  FLATBED_ASSIGN(const HubFiles found, parse_hub_files(page.text));
  add_below(prefix, found.files, list.names);
  add_below(prefix, found.folders, list.folders);
  if (list.names.size() <= kMaxNames && list.folders.size() <= kMaxNames) return {};
  return error_of(ErrorCode::limit_exceeded, "more than ", kMaxNames,
                  list.names.size() > kMaxNames ? " files" : " folders", ", the limit");
}

}  // namespace

Result<HubList> list_hub(const Transport& transport, const HubPlace& place) {
  HubList list;
  FLATBED_ASSIGN(Url url, parse_url(text_of(place.api, "/revision/", place.revision)));
  const std::string hub_origin = url.origin;
  const Result<Call> revision = get(transport, url, hub_origin);
  if (is_refusal(revision)) return list;
  if (!revision) return revision.error();
  FLATBED_ASSIGN(list.commit, parse_hub_commit(revision->text));
  const std::string prefix = decode_path(place.below);
  std::string folder = text_of(place.api, "/tree/", list.commit, "/", place.below);
  folder.pop_back();  // the slash
  FLATBED_ASSIGN(url, parse_url(folder));
  for (std::size_t pages = 0; !url.text.empty(); ++pages) {
    if (pages == kMaxPages)
      return error_of(ErrorCode::limit_exceeded, "more than ", kMaxPages, " pages, the limit");
    const Result<Call> page = get(transport, url, hub_origin);
    if (pages == 0 && is_refusal(page)) return list;
    if (!page) return page.error();
    if (page->head.status >= 300)
      return error_of(ErrorCode::http_status,
                      "the server does not have the next page: found status ", page->head.status);
    FLATBED_TRY(add_page(*page, prefix, list));
    FLATBED_ASSIGN(url, next_page(url, *page));
  }
  list.complete = true;
  return list;
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
