#include "scan/index_scan.hpp"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <set>
#include <span>
#include <string_view>
#include <utility>

#include "base/ascii.hpp"
#include "base/bytes.hpp"
#include "base/json.hpp"
#include "base/str_cat.hpp"
#include "base/text_char.hpp"
#include "flatbed/result.hpp"
#include "io/read_text.hpp"
#include "scan/plain_kinds.hpp"

namespace flatbed::pth {

namespace {

using Names = std::set<std::string>;

constexpr std::string_view kMap = "weight_map";
constexpr JsonRules kRules{ErrorCode::index_malformed, ErrorCode::index_malformed,
                           ErrorCode::index_malformed, ErrorCode::index_malformed, 127};

Result<void> read_map(JsonValue map, Names& names) {
  if (!map.is_object())
    return make_error(ErrorCode::index_malformed, "weight_map is not an object");
  for (JsonValue key = map.first(); !key.at_end();) {
    const JsonValue file = key.member();
    if (!file.is_string())
      return make_error(ErrorCode::index_malformed, "a value of weight_map is not a string");
    names.emplace(file.text());
    if (names.size() > kMaxIndexNames)
      return make_error(ErrorCode::limit_exceeded, "the index names more than ", kMaxIndexNames,
                        " files");
    key = file.next();
  }
  return {};
}

// Whether a string of the text begins as the key weight_map, each character of which may be
// escaped: \u0077.
bool may_have_map(std::string_view text) {
  constexpr std::size_t kEscape = 6;
  const auto begins = [](std::string_view rest) {
    for (const char c : kMap) {
      const bool plain = rest.starts_with(c);
      if (!plain && lower_case(rest.substr(0, kEscape)) !=
                        str_cat("\\u00", hex(static_cast<unsigned char>(c))))
        return false;
      rest.remove_prefix(plain ? 1 : kEscape);
    }
    return true;
  };
  for (std::size_t at = text.find('"'); at != text.npos; at = text.find('"', at + 1)) {
    const std::string_view rest = text.substr(at + 1);
    if ((rest.starts_with('w') || rest.starts_with('\\')) && begins(rest)) return true;
  }
  return false;
}

// The values of weight_map, each once; nullopt where the JSON text has none, which makes it no
// index. Errors: index_malformed (not JSON), limit_exceeded.
Result<std::optional<Names>> read_names(std::string_view text) {
  constexpr std::string_view kMark = "\xEF\xBB\xBF";
  if (text.starts_with(kMark)) text.remove_prefix(kMark.size());
  FLATBED_ASSIGN(const JsonDocument json, JsonDocument::parse_copy(text, kRules));
  const JsonValue root = json.root();
  std::optional<Names> names;
  if (!root.is_object()) return names;
  for (JsonValue key = root.first(); !key.at_end();) {
    const JsonValue value = key.member();
    if (key.text() == kMap) {
      if (!names) names.emplace();
      FLATBED_TRY(read_map(value, *names));
    }
    key = value.next();
  }
  return names;
}

}  // namespace

bool stays_inside(const std::string& name) {
  if (name.empty() || name.find('\0') != name.npos || name.find('\\') != name.npos) return false;
  const std::filesystem::path path(name);
  if (path.is_absolute()) return false;
  return std::ranges::none_of(path, [](const std::filesystem::path& p) { return p == ".."; });
}

std::string scan_json(const ByteSource& file, ScanLog& log, unsigned depth) {
  const std::string what = "a JSON text";
  const auto unseen = [&](std::string why) {
    log.unknown(ScanKind::unseen, "", std::move(why));
    return what;
  };
  Result<std::string> text = read_text(file, {kMaxJson, "the JSON text"});
  if (!text) return unseen(std::move(text).error().message);
  // Most JSON texts beside a model need no parsing. In the strings of JSON, tags of YAML mean
  // nothing.
  const bool binary = !std::ranges::all_of(*text, is_text_char);
  const bool tags = has_python_tag(*text);
  if (!binary && !tags && !may_have_map(*text)) return what;
  if (depth != 0 && text->size() > kMaxInnerJson)
    return unseen(str_cat("a JSON text of ", text->size(),
                          " bytes in another file is not parsed, the limit is ", kMaxInnerJson));
  Result<std::optional<Names>> names = read_names(*text);
  if (!names && binary) {
    log.unknown(ScanKind::malformed, "", "it begins like a JSON text but is not valid JSON");
    return "a file of unknown type";
  }
  if (!names && tags) {
    log.unknown(ScanKind::code, "", std::string(kPythonYaml));
    return std::string(kTextKind);
  }
  if (!names) return unseen(std::move(names).error().message);
  if (!*names) return what;
  std::string index = str_cat("an index of ", counted((*names)->size(), "file"));
  if (depth == 0 && log.index_names() != nullptr) {
    *log.index_names() = **std::move(names);
  } else if (!(*names)->empty()) {
    log.unknown(ScanKind::unseen, "", "it is an index, whose files are not at hand");
  }
  return index;
}

}  // namespace flatbed::pth
