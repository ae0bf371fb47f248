#include "scan/index_scan.hpp"

#include <algorithm>
#include <filesystem>
#include <span>
#include <string_view>
#include <utility>

#include "base/bytes.hpp"
#include "base/json.hpp"
#include "base/str_cat.hpp"

namespace flatbed::pth {

namespace {

constexpr std::uint64_t kMaxIndex = 250'000'000;  // as for opening a set
constexpr std::size_t kMaxNames = 10'000;
constexpr std::string_view kMap = "weight_map";
constexpr JsonRules kRules{ErrorCode::index_malformed, ErrorCode::index_malformed,
                           ErrorCode::index_malformed, ErrorCode::index_malformed, 127};

Result<void> read_map(JsonValue map, std::set<std::string>& names) {
  if (!map.is_object())
    return make_error(ErrorCode::index_malformed, "weight_map is not an object");
  for (JsonValue key = map.first(); !key.at_end();) {
    const JsonValue file = key.member();
    if (!file.is_string())
      return make_error(ErrorCode::index_malformed, "a value of weight_map is not a string");
    names.emplace(file.text());
    if (names.size() > kMaxNames)
      return make_error(ErrorCode::limit_exceeded, "the index names more than ", kMaxNames,
                        " files");
    key = file.next();
  }
  return {};
}

}  // namespace

Result<std::optional<std::set<std::string>>> read_index_names(const ByteSource& file) {
  using Names = std::optional<std::set<std::string>>;
  if (file.size() > kMaxIndex)
    return make_error(ErrorCode::limit_exceeded, "a JSON text of ", file.size(),
                      " bytes, the limit is ", kMaxIndex);
  std::string text(static_cast<std::size_t>(file.size()), '\0');
  FLATBED_TRY(file.read_at(0, std::as_writable_bytes(std::span(text))));
  // Most JSON texts beside a model are something else and need no parsing. An escape in a key may
  // hide the word.
  if (text.find(kMap) == text.npos && text.find("\\u") == text.npos) return Names();
  constexpr std::string_view kMark = "\xEF\xBB\xBF";
  std::string_view json_text = text;
  if (json_text.starts_with(kMark)) json_text.remove_prefix(kMark.size());
  FLATBED_ASSIGN(const JsonDocument json, JsonDocument::parse_copy(json_text, kRules));
  const JsonValue root = json.root();
  if (!root.is_object()) return Names();
  Names names;
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

bool stays_inside(const std::string& name) {
  if (name.empty() || name.find('\0') != name.npos || name.find('\\') != name.npos) return false;
  const std::filesystem::path path(name);
  if (path.is_absolute()) return false;
  return std::ranges::none_of(path, [](const std::filesystem::path& p) { return p == ".."; });
}

std::string scan_json(const ByteSource& file, ScanLog& log) {
  const auto names = read_index_names(file);
  if (!names) {
    log.unknown(ScanKind::unseen, "", names.error().message);
    return "a JSON text";
  }
  if (!*names) return "a JSON text";
  if (!(*names)->empty())
    log.unknown(ScanKind::unseen, "", "it is an index, whose files are not at hand");
  return str_cat("an index of ", (*names)->size(), (*names)->size() == 1 ? " file" : " files");
}

}  // namespace flatbed::pth
