// Parsing by simdjson. See json.hpp for what is promised.
#include "base/json.hpp"

#include <simdjson.h>

#include <algorithm>
#include <utility>

#include "base/bytes.hpp"
#include "base/json_check.hpp"
#include "base/str_cat.hpp"

namespace flatbed {

namespace {

// Versions of simdjson that were compared with check_json(), which holds the rules: of the texts
// that they accept, only those with a byte order mark need a check of our own. A version that is
// newer is not trusted: its texts are checked in full, so opening a file takes longer. To raise the
// number, read what changed in simdjson, and run tools/test_on where that version is.
constexpr bool kParserIsKnown =
    simdjson::SIMDJSON_VERSION_MAJOR < 4 ||
    (simdjson::SIMDJSON_VERSION_MAJOR == 4 && simdjson::SIMDJSON_VERSION_MINOR <= 6);

#if defined(SIMDJSON_ENABLE_NAN_INF) && SIMDJSON_ENABLE_NAN_INF
#error \
    "simdjson accepts NaN and Infinity as it was built here, which no JSON text of flatbed may hold"
#endif

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

Result<void> check_all(std::string_view text, const JsonRules& rules) {
  simdjson::dom::parser parser;
  return check_json(text, rules, [&parser](std::string_view real) {
    return parser.parse(real.data(), real.size()).error() == simdjson::SUCCESS;
  });
}

// The error of a text that simdjson refuses. Its own codes differ between versions.
Error json_error(simdjson::error_code code, std::string_view text, const JsonRules& rules) {
  if (code == simdjson::MEMALLOC) {
    return make_error(ErrorCode::resource_exhausted, "no memory to parse the JSON text");
  }
  if (auto checked = check_all(text, rules); !checked) {
    return std::move(checked).error();
  }
  return make_error(rules.not_json, "the JSON text is refused: ", simdjson::error_message(code));
}

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

// Whether the '-' at `at` can begin a literal -0, judged by its neighbours alone.
bool may_be_negative_zero(std::string_view json, std::size_t at) {
  if (at + 1 >= json.size() || json[at + 1] != '0') return false;
  const char before = at == 0 ? ' ' : json[at - 1];
  const char after = at + 2 == json.size() ? ' ' : json[at + 2];
  const bool begins = before == '[' || before == ',' || before == ':' || is_space(before);
  return begins && (after == ']' || after == '}' || after == ',' || is_space(after));
}

}  // namespace

std::size_t JsonValue::depth() const noexcept {
  std::size_t depth = 0;
  std::size_t deepest = 0;
  const std::size_t end = index_ + width();
  for (JsonValue at = *this; at.index_ < end;) {
    if (at.is_object() || at.is_array()) deepest = std::max(deepest, ++depth);
    if (at.at_end()) --depth;
    const bool opens = at.is_object() || at.is_array();
    at.index_ += opens ? 1 : at.width();
  }
  return deepest;
}

struct JsonDocument::Parser {
  // Makes room for a text of this size. parse() would do the same, but would not let us at the
  // memory before it is touched.
  simdjson::error_code allocate(std::size_t size, std::size_t max_depth, MemoryAdvice advise) {
    if (parser.doc.capacity() >= size && parser.capacity() >= size &&
        parser.max_depth() == max_depth) {
      return simdjson::SUCCESS;
    }
    if (const auto code = parser.allocate(size, max_depth)) return code;
    if (const auto code = parser.doc.allocate(size)) return code;
    if (advise == nullptr) return simdjson::SUCCESS;
    // A text has at most one structural character, tape word and string byte per byte.
    advise(parser.implementation->structural_indexes.get(), size * sizeof(std::uint32_t));
    advise(parser.doc.tape.get(), size * sizeof(std::uint64_t));
    advise(parser.doc.string_buf.get(), size);
    return simdjson::SUCCESS;
  }

  simdjson::dom::parser parser;
};

JsonDocument::JsonDocument(std::unique_ptr<Parser> parser)
    : parser_(std::move(parser)),
      tape_(parser_->parser.doc.tape.get()),
      strings_(parser_->parser.doc.string_buf.get()) {}
JsonDocument::JsonDocument(JsonDocument&&) noexcept = default;
JsonDocument& JsonDocument::operator=(JsonDocument&&) noexcept = default;
JsonDocument::~JsonDocument() = default;

JsonScratch::JsonScratch() noexcept = default;
JsonScratch::~JsonScratch() = default;

Result<JsonDocument> JsonDocument::parse(std::span<const std::byte> padded, const JsonRules& rules,
                                         const JsonMemory& memory) {
  // simdjson counts the root as one level more than it has.
  return parse_to_depth(padded, rules, memory, rules.max_depth + 1);
}

// `max_depth` as simdjson counts it.
Result<JsonDocument> JsonDocument::parse_to_depth(std::span<const std::byte> padded,
                                                  const JsonRules& rules, const JsonMemory& memory,
                                                  std::size_t max_depth) {
  static_assert(kPadding >= simdjson::SIMDJSON_PADDING);
  const std::string_view text = as_text(padded.first(padded.size() - kPadding));
  if (!kParserIsKnown || text.starts_with(kByteOrderMark)) {
    FLATBED_TRY(check_all(text, rules));
  }
  std::unique_ptr<Parser> parser;
  if (memory.scratch != nullptr) parser = std::move(memory.scratch->parser_);
  if (!parser) parser = std::make_unique<Parser>();
  if (const auto code = parser->allocate(text.size(), max_depth, memory.advise)) {
    return json_error(code, text, rules);
  }
  const auto code = parser->parser.parse(text.data(), text.size(), false).error();
  if (code != simdjson::SUCCESS) return json_error(code, text, rules);
  return JsonDocument(std::move(parser));
}

Result<JsonDocument> JsonDocument::parse_exactly(std::span<const std::byte> padded,
                                                 const JsonRules& rules, const JsonMemory& memory) {
  // simdjson lets an empty array or object pass one level deeper, which takes a walk to find. What
  // passes with one level less needs none: nearly every text.
  if (Result<JsonDocument> shallow = parse_to_depth(padded, rules, memory, rules.max_depth))
    return shallow;
  Result<JsonDocument> document = parse(padded, rules, memory);
  if (document && document->root().depth() > rules.max_depth)
    return make_error(rules.too_deep, "the JSON text nests more than ", rules.max_depth, " levels");
  return document;
}

Result<JsonDocument> JsonDocument::parse_copy(std::string_view text, const JsonRules& rules) {
  const auto copy = std::make_unique_for_overwrite<std::byte[]>(text.size() + kPadding);
  std::memcpy(copy.get(), text.data(), text.size());
  std::memset(copy.get() + text.size(), 0, kPadding);
  return parse_exactly({copy.get(), text.size() + kPadding}, rules);
}

void JsonDocument::recycle(JsonScratch& scratch) noexcept {
  scratch.parser_ = std::move(parser_);
  tape_ = nullptr;
  strings_ = nullptr;
}

void JsonDocument::keep_texts_only() noexcept {
  parser_->parser.implementation.reset();
  parser_->parser.doc.tape.reset();
  tape_ = nullptr;
}

std::vector<std::size_t> find_negative_zeros(std::string_view json) {
  std::size_t at = json.find('-');
  while (at != json.npos && !may_be_negative_zero(json, at)) at = json.find('-', at + 1);
  std::vector<std::size_t> places;
  if (at == json.npos) return places;
  // Rare: something looks like one. Only now is it worth telling strings from the rest.
  bool in_string = false;
  for (std::size_t i = 0; i < json.size(); ++i) {
    if (in_string && json[i] == '\\')
      ++i;
    else if (json[i] == '"')
      in_string = !in_string;
    else if (!in_string && json[i] == '-' && may_be_negative_zero(json, i))
      places.push_back(i);
  }
  return places;
}

}  // namespace flatbed
