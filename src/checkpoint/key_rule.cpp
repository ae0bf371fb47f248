#include "checkpoint/key_rule.hpp"

#include <optional>
#include <utility>

#include "base/str_cat.hpp"
#include "checkpoint/fusion_rule.hpp"

namespace flatbed {

namespace {

using Rule = KeyMapAccess::Rule;

constexpr std::string_view kBlanks = " \t\r\v\f";
constexpr std::string_view kStrip = "strip-prefix";
constexpr std::string_view kAdd = "add-prefix";
constexpr std::size_t kMaxDigits = 5;  // of a capture's number

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
  const std::size_t captures = rule.olds.front().captures();
  if (number != 0 && number <= captures) return number;
  return malformed_rule(rule.text, "NEW refers to what no wildcard of OLD matches: found ",
                        quoted(str_cat("{", inside, "}")), ", expected ",
                        captures == 0
                            ? std::string("none, because OLD has no wildcard; {{ is a brace")
                        : captures == 1 ? std::string("{1}")
                                        : str_cat("{1} to {", captures, "}"));
}

}  // namespace

std::string_view without_blanks(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(kBlanks);
  if (begin == text.npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlanks) - begin + 1);
}

Result<void> add_new_name(std::string_view text, Rule& rule) {
  Rule::NewName name;
  Rule::Piece piece;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const bool doubled = i + 1 < text.size() && text[i + 1] == c;
    if ((c == '{' || c == '}') && doubled) {
      piece.literal += c;
      ++i;
    } else if (c == '}') {
      return malformed_rule(rule.text, "NEW has a } without a {; }} is a brace");
    } else if (c == '{') {
      const std::size_t close = text.find('}', i);
      if (close == text.npos)
        return malformed_rule(rule.text, "NEW has a { without a }; {{ is a brace");
      FLATBED_ASSIGN(piece.capture, capture_number(text.substr(i + 1, close - i - 1), rule));
      name.push_back(std::exchange(piece, {}));
      i = close;
    } else {
      piece.literal += c;
    }
  }
  if (!piece.literal.empty()) name.push_back(std::move(piece));
  rule.news.push_back(std::move(name));
  return {};
}

Result<Rule> make_prefix_rule(Rule::Kind kind, std::string_view prefix) {
  Rule rule;
  rule.kind = kind;
  rule.text = str_cat(kind == Rule::Kind::strip_prefix ? kStrip : kAdd, " ", prefix);
  rule.prefix = prefix;
  if (prefix.empty()) return malformed_rule(rule.text, "the prefix is empty");
  return rule;
}

Result<Rule> parse_key_rule(std::string_view text) {
  if (const auto prefix = after_keyword(text, kStrip))
    return make_prefix_rule(Rule::Kind::strip_prefix, *prefix);
  if (const auto prefix = after_keyword(text, kAdd))
    return make_prefix_rule(Rule::Kind::add_prefix, *prefix);
  const std::size_t equals = find_equals(text);
  if (equals == text.npos) {
    return malformed_rule(text, "found no =, expected OLD=NEW, ", kStrip, " PREFIX or ", kAdd,
                          " PREFIX");
  }
  const std::string_view old_names = without_blanks(text.substr(0, equals));
  const std::string_view new_names = without_blanks(text.substr(equals + 1));
  if (is_fusion(new_names)) return parse_fusion_rule(text, old_names, new_names);
  if (old_names.empty()) return malformed_rule(text, "OLD is empty, expected a name or a glob");
  if (new_names.empty()) return malformed_rule(text, "NEW is empty, expected a name");
  Rule rule;
  rule.text = text;
  rule.olds.emplace_back(old_names);
  FLATBED_TRY(add_new_name(new_names, rule));
  return rule;
}

std::string_view KeyMap::Rule::head(std::size_t number) const {
  if (kind == Kind::strip_prefix) return prefix;
  return olds.empty() ? std::string_view() : std::string_view(olds[number].prefix());
}

std::string_view KeyMap::Rule::tail(std::size_t number) const {
  return olds.empty() ? std::string_view() : std::string_view(olds[number].suffix());
}

std::size_t KeyMap::Rule::min_size(std::size_t number) const {
  if (kind == Kind::strip_prefix) return prefix.size();
  return olds.empty() ? 0 : olds[number].min_size();
}

std::string KeyMap::Rule::describe() const {
  const std::string what =
      kind == Kind::callback ? std::string("the callback") : str_cat("rename rule ", quoted(text));
  return place.empty() ? what : str_cat(place, ": ", what);
}

}  // namespace flatbed
