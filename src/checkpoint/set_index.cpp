#include "checkpoint/set_index.hpp"

#include <algorithm>
#include <cstdint>
#include <span>

#include "base/ascii.hpp"
#include "base/str_cat.hpp"
#include "io/large_allocator.hpp"
#include "io/name_index.hpp"
#include "io/read_text.hpp"

namespace flatbed {

namespace {

constexpr JsonRules kIndexRules{ErrorCode::index_malformed, ErrorCode::index_malformed,
                                ErrorCode::index_malformed, ErrorCode::index_malformed, 127};
constexpr std::string_view kSafetensors = ".safetensors";
constexpr std::string_view kBin = ".bin";

Error malformed(std::string_view what) { return make_error(ErrorCode::index_malformed, what); }

bool is_forbidden(char c) {
  return static_cast<unsigned char>(c) < 0x20 || c == '\x7F' || c == '\\' || c == ':';
}

// H2, the lexical half: a relative path that stays inside, with the right ending. Returns it
// without "." components; nullopt if it is refused.
std::optional<std::string> normal_name(std::string_view name, std::string_view ending) {
  if (std::ranges::any_of(name, is_forbidden)) return std::nullopt;
  std::string out;
  for (std::string_view rest = name;;) {
    const std::size_t slash = rest.find('/');
    const std::string_view component = rest.substr(0, slash);
    if (component != "." && (component.empty() || component.starts_with('.'))) return std::nullopt;
    if (component != ".") out += str_cat(out.empty() ? "" : "/", component);
    if (slash == std::string_view::npos) break;
    rest.remove_prefix(slash + 1);
  }
  const std::string_view last = std::string_view(out).substr(out.rfind('/') + 1);
  const bool fits = has_ending(last, ending) && last.size() > ending.size();
  return fits ? std::optional(std::move(out)) : std::nullopt;
}

Result<std::string> check_shard_name(std::string_view name, std::string_view ending) {
  if (std::optional<std::string> normal = normal_name(name, ending)) return *std::move(normal);
  return make_error(ErrorCode::shard_name_refused, "the index names the file ", quoted(name),
                    ": expected a relative path inside the folder that ends in ", ending);
}

// Shards of pickles are allowed only in an index of pickles: a safetensors index must not lead to
// pickles. The name may end in a variant: "pytorch_model.bin.index.fp16.json".
std::string_view shard_ending(std::string_view index) {
  const std::string name = lower_case(index);
  return name.find(".bin.index.") != std::string::npos ? kBin : kSafetensors;
}

Result<void> read_members(JsonValue map, std::string_view ending, SetIndex& index) {
  std::vector<std::string_view>& names = index.names;
  names.reserve(map.size_hint());
  // The shard of each spelling, which is checked only once. Most entries repeat the last one.
  std::map<std::string_view, std::vector<std::uint32_t>*> spellings;
  std::string_view last;
  std::vector<std::uint32_t>* shard = nullptr;
  for (JsonValue key = map.first(); !key.at_end();) {
    const JsonValue file = key.member();
    if (!file.is_string()) return malformed("a value of weight_map is not a string");
    const auto number = static_cast<std::uint32_t>(names.size());
    names.push_back(key.text());
    if (shard == nullptr || file.text() != last) {
      auto& spelled = spellings[last = file.text()];
      if (spelled == nullptr) {
        FLATBED_ASSIGN(const std::string name, check_shard_name(file.text(), ending));
        spelled = &index.shards[name];
      }
      if (spellings.size() > kMaxShards) {
        return make_error(ErrorCode::limit_exceeded, "the index names more than ", kMaxShards,
                          " files");
      }
      shard = spelled;
    }
    shard->push_back(number);
    key = file.next();
  }
  if (names.empty()) return malformed("weight_map is empty");
  return {};
}

Result<void> read_weight_map(JsonValue map, std::string_view ending, SetIndex& index) {
  const Result<void> read = read_members(map, ending, index);
  // A name that is listed twice comes before what ended the reading.
  const std::vector<std::string_view>& names = index.names;
  const std::optional<std::uint32_t> twice = index.numbers.insert_all(
      static_cast<std::uint32_t>(names.size()), [&](std::uint32_t i) { return names[i]; });
  if (!twice) return read;
  return make_error(ErrorCode::index_duplicate_name, "duplicate name: weight_map lists ",
                    quoted(names[*twice]), " twice");
}

Result<void> read_index_metadata(JsonValue metadata, SetIndex& index) {
  if (metadata.is_null()) return {};
  if (!metadata.is_object()) return malformed("metadata is not an object");
  for (JsonValue key = metadata.first(); !key.at_end();) {
    const JsonValue value = key.member();
    if (key.text() == "flatbed.shards") {
      if (!value.is_string() || index.contents) {
        return malformed("metadata has several flatbed.shards or one that is not a string");
      }
      index.contents = value.text();
    }
    key = value.next();
  }
  return {};
}

}  // namespace

Result<SetIndex> read_set_index(const ByteSource& file, std::string_view name) {
  FLATBED_ASSIGN(const ByteBuffer text,
                 read_padded(file, {kMaxIndex, "the index"}, JsonDocument::kPadding));
  FLATBED_ASSIGN(JsonDocument json,
                 JsonDocument::parse_exactly(text, kIndexRules, {prefer_huge_pages}));
  SetIndex index{std::move(json), {}, NameIndex(), {}, std::nullopt};
  const JsonValue root = index.json.root();
  if (!root.is_object()) return malformed("the index is not a JSON object");
  bool mapped = false;
  bool described = false;
  for (JsonValue key = root.first(); !key.at_end();) {
    const JsonValue value = key.member();
    if (key.text() == "weight_map") {
      if (mapped || !value.is_object())
        return malformed("the index has no weight_map, several, or one that is not an object");
      mapped = true;
      FLATBED_TRY(read_weight_map(value, shard_ending(name), index));
    } else if (key.text() == "metadata") {
      if (described) return malformed("the index has metadata twice");
      described = true;
      FLATBED_TRY(read_index_metadata(value, index));
    }
    key = value.next();
  }
  if (!mapped) return malformed("the JSON text is not an index of shards: it has no weight_map");
  index.json.keep_texts_only();
  return index;
}

}  // namespace flatbed
