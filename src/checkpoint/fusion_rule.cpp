#include "checkpoint/fusion_rule.hpp"

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>

namespace flatbed {

namespace {

using Rule = KeyMapAccess::Rule;

constexpr std::string_view kCat = "cat(";
constexpr std::string_view kSplit = "split(";
constexpr std::string_view kDim = "dim";

// The texts between commas that are neither escaped nor in a set (as in CaptureGlob), without the
// blanks around them.
std::vector<std::string> arguments_of(std::string_view text) {
  std::vector<std::string> arguments;
  const std::size_t sets_end = text.rfind(']') + 1;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool opens = text[i] == '[' && i + 2 < sets_end;
    const std::size_t close = opens ? text.find(']', i + 2) : text.npos;
    if (close != text.npos) {
      i = close;
    } else if (text[i] == '\\') {
      ++i;
    } else if (text[i] == ',') {
      arguments.emplace_back(without_blanks(text.substr(begin, i - begin)));
      begin = i + 1;
    }
  }
  arguments.emplace_back(without_blanks(text.substr(begin)));
  return arguments;
}

std::vector<std::string> names_of(std::string_view text) {
  std::vector<std::string> names;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    names.emplace_back(without_blanks(text.substr(begin, end - begin)));
    begin = end + 1;
  }
  return names;
}

// All of `text`, in digits.
template <typename Number>
std::optional<Number> number_of(std::string_view text) {
  Number number = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || stop != end || text.empty()) return std::nullopt;
  return number;
}

// Takes "dim=NUMBER" off the end of the arguments, if it is there.
Result<std::int64_t> take_dim(std::string_view rule, std::vector<std::string>& arguments) {
  if (!arguments.back().starts_with(kDim)) return 0;
  const std::string_view last = arguments.back();
  const std::string_view value = without_blanks(last.substr(kDim.size()));
  if (!value.starts_with('=')) return 0;  // the name of a tensor
  const auto dim = number_of<std::int64_t>(without_blanks(value.substr(1)));
  if (!dim) {
    return malformed_rule(rule, "the dimension is not a number: found ", quoted(last),
                          ", expected such as dim=0");
  }
  arguments.pop_back();
  return *dim;
}

Result<void> check_count(std::string_view rule, std::size_t count) {
  if (count >= 2 && count <= KeyMap::kMaxParts) return {};
  return malformed_rule(rule, "found ", counted(count, "part"), ", expected 2 to ",
                        KeyMap::kMaxParts);
}

Result<void> add_name(std::string_view name, Rule& rule) {
  if (name.empty()) return malformed_rule(rule.text, "NEW is empty, expected a name");
  return add_new_name(name, rule);
}

Result<void> add_glob(std::string_view glob, Rule& rule) {
  if (glob.empty()) return malformed_rule(rule.text, "OLD is empty, expected a name or a glob");
  rule.olds.emplace_back(glob);
  if (rule.olds.back().captures() == rule.olds.front().captures()) return {};
  return malformed_rule(rule.text, "the parts have different numbers of wildcards: found ",
                        rule.olds.front().captures(), " and, in ", quoted(glob), ", ",
                        rule.olds.back().captures());
}

std::string joined(const std::vector<std::string>& texts) {
  std::string out;
  for (const std::string& text : texts) out += str_cat(out.empty() ? "" : ", ", text);
  return out;
}

}  // namespace

bool is_fusion(std::string_view right) noexcept {
  return right.ends_with(')') && (right.starts_with(kCat) || right.starts_with(kSplit));
}

Result<Rule> parse_fusion_rule(std::string_view text, std::string_view left,
                               std::string_view right) {
  const bool cats = right.starts_with(kCat);
  const std::size_t begin = (cats ? kCat : kSplit).size();
  std::vector<std::string> arguments = arguments_of(right.substr(begin, right.size() - begin - 1));
  FLATBED_ASSIGN(const std::int64_t dim, take_dim(text, arguments));
  if (cats) return make_rule(text, CatRule{std::string(left), std::move(arguments), dim});
  SplitRule split{names_of(left), {}, {}, dim};
  if (!arguments.empty()) split.whole = arguments.front();
  for (std::size_t i = 1; i < arguments.size(); ++i) {
    const std::string_view found = arguments[i];
    const auto size = number_of<std::uint64_t>(found);
    if (!size) {
      return malformed_rule(text, "a size is not a number: found ", quoted(found),
                            ", expected a number of elements");
    }
    split.sizes.push_back(*size);
  }
  return make_rule(text, split);
}

std::string text_of(const CatRule& cat) {
  return str_cat(cat.name, " = ", kCat, joined(cat.parts), ", ", kDim, "=", cat.dim, ")");
}

std::string text_of(const SplitRule& split) {
  std::string sizes;
  for (const std::uint64_t size : split.sizes) sizes += str_cat(", ", size);
  return str_cat(joined(split.names), " = ", kSplit, split.whole, sizes, ", ", kDim, "=", split.dim,
                 ")");
}

Result<Rule> make_rule(std::string_view text, const CatRule& cat) {
  Rule rule;
  rule.kind = Rule::Kind::cat;
  rule.text = text;
  rule.dim = cat.dim;
  FLATBED_TRY(check_count(text, cat.parts.size()));
  for (const std::string& part : cat.parts) {
    FLATBED_TRY(add_glob(part, rule));
    if (std::ranges::count(cat.parts, part) > 1)
      return malformed_rule(text, "the part ", quoted(part), " appears twice");
  }
  FLATBED_TRY(add_name(cat.name, rule));
  return rule;
}

Result<Rule> make_rule(std::string_view text, const SplitRule& split) {
  Rule rule;
  rule.kind = Rule::Kind::split;
  rule.text = text;
  rule.dim = split.dim;
  rule.sizes = split.sizes;
  if (split.names.size() != split.sizes.size()) {
    return malformed_rule(text, "found ", counted(split.names.size(), "name"), " and ",
                          counted(split.sizes.size(), "size"), ", expected a size for each name");
  }
  FLATBED_TRY(check_count(text, split.names.size()));
  FLATBED_TRY(add_glob(split.whole, rule));
  for (const std::string& name : split.names) FLATBED_TRY(add_name(name, rule));
  return rule;
}

}  // namespace flatbed
