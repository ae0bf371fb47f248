#include "flatbed/hub_listing.hpp"

#include <algorithm>

#include "base/json.hpp"
#include "base/str_cat.hpp"

namespace flatbed {

namespace {

constexpr std::size_t kCommitDigits = 40;
// Of what a repository says of itself, which stands beside the commit.
constexpr JsonRules kRules{ErrorCode::http_protocol, ErrorCode::http_protocol,
                           ErrorCode::http_protocol, ErrorCode::http_protocol, 256};

Result<JsonDocument> parse(std::string_view json) {
  Result<JsonDocument> document = JsonDocument::parse_copy(json, kRules);
  if (!document) return with_context("the answer of the hub", std::move(document).error());
  return document;
}

// The text of a member; empty if there is none.
std::string_view text_of(JsonValue object, std::string_view key) {
  if (!object.is_object()) return {};
  for (JsonValue name = object.first(); !name.at_end(); name = name.member().next()) {
    if (name.text() == key) return name.member().text();
  }
  return {};
}

bool is_commit(std::string_view text) {
  return text.size() == kCommitDigits && std::ranges::all_of(text, [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

}  // namespace

Result<std::string> parse_hub_commit(std::string_view json) {
  FLATBED_ASSIGN(const JsonDocument document, parse(json));
  const std::string_view commit = text_of(document.root(), "sha");
  if (is_commit(commit)) return std::string(commit);
  return make_error(ErrorCode::http_protocol, "the answer of the hub names no commit: found ",
                    quoted(commit), ", expected ", kCommitDigits, " hexadecimal digits");
}

Result<HubFiles> parse_hub_files(std::string_view json) {
  FLATBED_ASSIGN(const JsonDocument document, parse(json));
  const JsonValue root = document.root();
  if (!root.is_array())
    return make_error(ErrorCode::http_protocol, "the answer of the hub is no list of files");
  HubFiles found;
  std::size_t number = 0;
  for (JsonValue item = root.first(); !item.at_end(); item = item.next(), ++number) {
    const std::string_view type = text_of(item, "type");
    const std::string_view path = text_of(item, "path");
    if (type.empty() || path.empty())
      return make_error(ErrorCode::http_protocol,
                        "the answer of the hub is no list of files: item ", number,
                        " has no type or no path");
    (type == "file" ? found.files : found.folders).emplace_back(path);
  }
  return found;
}

}  // namespace flatbed
