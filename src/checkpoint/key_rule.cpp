#include "checkpoint/key_rule.hpp"

#include <optional>
#include <utility>

#include "base/str_cat.hpp"

namespace flatbed {

namespace {

using Rule = KeyMapAccess::Rule;

constexpr std::string_view kBlanks = " \t\r\v\f";
constexpr std::string_view kStrip = "strip-prefix";
constexpr std::string_view kAdd = "add-prefix";
constexpr std::size_t kMaxDigits = 5;  // of a capture's number

template <typename... Parts>
Error malformed(std::string_view text, const Parts&... parts) {
  return make_error(ErrorCode::invalid_argument, "rename rule ", quoted(text), ": ", parts...);
}

// What follows `keyword` and a blank.
std::optional<std::string_view> after_keyword(std::string_view text, std::string_view keyword) {
  if (!text.starts_with(keyword)) return std::nullopt;
  const std::string_view rest = text.substr(keyword.size());
  if (!rest.empty() && kBlanks.find(rest[0]) == kBlanks.npos) return std::nullopt;
  return without_blanks(rest);
}

// The = that ends OLD, or npos.
std::size_t find_equals(std::string_view text) {
  const std::size_t sets_end = text.rfind(']') + 1;  // as in CaptureGlob
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '=') return i;
    const bool opens = text[i] == '[' && i + 2 < sets_end;
    const std::size_t close = opens ? text.find(']', i + 2) : text.npos;
    if (close != text.npos) i = close;
    if (text[i] == '\\') ++i;
  }
  return text.npos;
}

// The capture that {..} refers to; `inside` is what the braces hold.
Result<std::size_t> capture_number(std::string_view inside, const Rule& rule) {
  const bool digits = !inside.empty() && inside.size() <= kMaxDigits &&
                      inside.find_first_not_of("0123456789") == inside.npos;
  std::size_t number = 0;
  for (const char c : inside) number = digits ? number * 10 + static_cast<std::size_t>(c - '0') : 0;
  if (number != 0 && number <= rule.old.captures()) return number;
  const std::size_t captures = rule.old.captures();
  return malformed(rule.text, "NEW refers to what no wildcard of OLD matches: found ",
                   quoted(str_cat("{", inside, "}")), ", expected ",
                   captures == 0   ? std::string("none, because OLD has no wildcard; {{ is a brace")
                   : captures == 1 ? std::string("{1}")
                                   : str_cat("{1} to {", captures, "}"));
}

Result<void> parse_new(std::string_view text, Rule& rule) {
  Rule::Piece piece;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const bool doubled = i + 1 < text.size() && text[i + 1] == c;
    if ((c == '{' || c == '}') && doubled) {
      piece.literal += c;
      ++i;
    } else if (c == '}') {
      return malformed(rule.text, "NEW has a } without a {; }} is a brace");
    } else if (c == '{') {
      const std::size_t close = text.find('}', i);
      if (close == text.npos) return malformed(rule.text, "NEW has a { without a }; {{ is a brace");
      FLATBED_ASSIGN(piece.capture, capture_number(text.substr(i + 1, close - i - 1), rule));
      rule.replacement.push_back(std::exchange(piece, {}));
      i = close;
    } else {
      piece.literal += c;
    }
  }
  if (!piece.literal.empty()) rule.replacement.push_back(std::move(piece));
  return {};
}

}  // namespace

std::string_view without_blanks(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(kBlanks);
  if (begin == text.npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlanks) - begin + 1);
}

Result<Rule> make_prefix_rule(Rule::Kind kind, std::string_view prefix) {
  Rule rule;
  rule.kind = kind;
  rule.text = str_cat(kind == Rule::Kind::strip_prefix ? kStrip : kAdd, " ", prefix);
  rule.prefix = prefix;
  if (prefix.empty()) return malformed(rule.text, "the prefix is empty");
  return rule;
}

Result<Rule> parse_key_rule(std::string_view text) {
  if (const auto prefix = after_keyword(text, kStrip))
    return make_prefix_rule(Rule::Kind::strip_prefix, *prefix);
  if (const auto prefix = after_keyword(text, kAdd))
    return make_prefix_rule(Rule::Kind::add_prefix, *prefix);
  const std::size_t equals = find_equals(text);
  if (equals == text.npos) {
    return malformed(text, "found no =, expected OLD=NEW, ", kStrip, " PREFIX or ", kAdd,
                     " PREFIX");
  }
  Rule rule;
  rule.text = text;
  const std::string_view old_names = without_blanks(text.substr(0, equals));
  const std::string_view new_names = without_blanks(text.substr(equals + 1));
  if (old_names.empty()) return malformed(text, "OLD is empty, expected a name or a glob");
  if (new_names.empty()) return malformed(text, "NEW is empty, expected a name");
  rule.old = CaptureGlob(old_names);
  FLATBED_TRY(parse_new(new_names, rule));
  return rule;
}

std::string_view KeyMap::Rule::head() const {
  return kind == Kind::strip_prefix ? std::string_view(prefix) : std::string_view(old.prefix());
}

std::string_view KeyMap::Rule::tail() const { return old.suffix(); }

std::size_t KeyMap::Rule::min_size() const {
  return kind == Kind::strip_prefix ? prefix.size() : old.min_size();
}

std::string KeyMap::Rule::describe() const {
  const std::string what =
      kind == Kind::callback ? std::string("the callback") : str_cat("rename rule ", quoted(text));
  return place.empty() ? what : str_cat(place, ": ", what);
}

}  // namespace flatbed
