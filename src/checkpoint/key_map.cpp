#include "flatbed/key_map.hpp"

#include <algorithm>
#include <span>
#include <utility>

#include "base/bytes.hpp"
#include "base/str_cat.hpp"
#include "base/utf8.hpp"
#include "checkpoint/fusion_rule.hpp"
#include "checkpoint/key_mapper.hpp"
#include "checkpoint/key_rule.hpp"
#include "io/file.hpp"
#include "io/read_text.hpp"

namespace flatbed {

namespace {

using Rule = KeyMapAccess::Rule;

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

// A line without its comment and the blanks around what is left.
std::string_view rule_of(std::string_view line) {
  for (std::size_t at = line.find('#'); at != line.npos; at = line.find('#', at + 1)) {
    if (at == 0 || line[at - 1] == ' ' || line[at - 1] == '\t')
      return without_blanks(line.substr(0, at));
  }
  return without_blanks(line);
}

Error too_many(std::string_view what, std::size_t found, std::size_t limit) {
  return make_error(ErrorCode::limit_exceeded, what, ": found ", found, ", the limit is ", limit);
}

Result<void> check_text_size(std::uint64_t nbytes) {
  if (nbytes <= KeyMap::kMaxTextNbytes) return {};
  return too_many("too many bytes of rename rules", static_cast<std::size_t>(nbytes),
                  KeyMap::kMaxTextNbytes);
}

}  // namespace

Result<void> KeyMap::add(std::shared_ptr<const Rule> rule) {
  if (rules_.size() >= kMaxRules)
    return too_many("too many rename rules", rules_.size() + 1, kMaxRules);
  rules_.push_back(std::move(rule));
  return {};
}

Result<KeyMap> KeyMap::parse_rule(std::string_view rule) {
  FLATBED_TRY(check_text_size(rule.size()));
  FLATBED_ASSIGN(Rule parsed, parse_key_rule(without_blanks(rule)));
  KeyMap map;
  FLATBED_TRY(map.add(std::make_shared<const Rule>(std::move(parsed))));
  return map;
}

Result<KeyMap> KeyMap::parse(std::string_view text, std::string_view label) {
  if (Result<void> fits = check_text_size(text.size()); !fits)
    return with_context(label, std::move(fits).error());
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  KeyMap map;
  for (std::size_t number = 1; !text.empty(); ++number) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const std::string place = str_cat(label, ":", number);
    if (!is_utf8(line)) {
      return make_error(ErrorCode::invalid_argument, place, ": the line is not UTF-8: found ",
                        quoted(line));
    }
    const std::string_view rule = rule_of(line);
    if (rule.empty()) continue;
    Result<Rule> parsed = parse_key_rule(rule);
    if (!parsed) return with_context(place, std::move(parsed).error());
    parsed->place = place;
    Result<void> added = map.add(std::make_shared<const Rule>(*std::move(parsed)));
    if (!added) return with_context(place, std::move(added).error());
  }
  return map;
}

Result<KeyMap> KeyMap::read(const std::filesystem::path& path) {
  FLATBED_ASSIGN(const File file, File::open(path));
  const Result<std::string> text = read_text(file, {kMaxTextNbytes, "the file of rename rules"});
  if (!text) return with_context(path.native(), text.error());
  return parse(*text, path.native());
}

Result<void> KeyMap::strip_prefix(std::string_view prefix, Unmatched unmatched) {
  FLATBED_ASSIGN(Rule rule, make_prefix_rule(Rule::Kind::strip_prefix, prefix));
  rule.unmatched = unmatched;
  return add(std::make_shared<const Rule>(std::move(rule)));
}

Result<void> KeyMap::add_prefix(std::string_view prefix) {
  FLATBED_ASSIGN(Rule rule, make_prefix_rule(Rule::Kind::add_prefix, prefix));
  return add(std::make_shared<const Rule>(std::move(rule)));
}

Result<void> KeyMap::add_callback(Callback callback) {
  if (!callback) return make_error(ErrorCode::invalid_argument, "a rename callback is empty");
  Rule rule;
  rule.kind = Rule::Kind::callback;
  rule.callback = std::move(callback);
  rule.unmatched = Unmatched::allow;
  return add(std::make_shared<const Rule>(std::move(rule)));
}

Result<void> KeyMap::cat(std::string_view name, const std::vector<std::string>& parts,
                         std::int64_t dim) {
  const CatRule cat{std::string(name), parts, dim};
  FLATBED_ASSIGN(Rule rule, make_rule(text_of(cat), cat));
  return add(std::make_shared<const Rule>(std::move(rule)));
}

Result<void> KeyMap::split(const std::vector<std::string>& names, std::string_view whole,
                           const std::vector<std::uint64_t>& sizes, std::int64_t dim) {
  const SplitRule split{names, std::string(whole), sizes, dim};
  FLATBED_ASSIGN(Rule rule, make_rule(text_of(split), split));
  return add(std::make_shared<const Rule>(std::move(rule)));
}

Result<void> KeyMap::append(const KeyMap& other) {
  if (other.size() > kMaxRules - size())
    return too_many("too many rename rules", size() + other.size(), kMaxRules);
  const std::vector<std::shared_ptr<const Rule>> added = other.rules_;  // it may be this map
  rules_.insert(rules_.end(), added.begin(), added.end());
  return {};
}

Result<std::string> KeyMap::map(std::string_view name) const {
  KeyMapper mapper(*this);
  FLATBED_ASSIGN(const KeyMapper::Stop stop, mapper.run(name));
  if (stop.rule == size()) return std::string(stop.name);
  return make_error(ErrorCode::invalid_argument, KeyMapAccess::rules(*this)[stop.rule]->describe(),
                    " is about a tensor and not a name alone: found ", quoted(stop.name),
                    ", expected that rename() of a checkpoint runs it");
}

}  // namespace flatbed
