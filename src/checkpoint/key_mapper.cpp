#include "checkpoint/key_mapper.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <utility>

#include "base/str_cat.hpp"
#include "base/utf8.hpp"

namespace flatbed {

namespace {

constexpr std::size_t kProbed = sizeof(std::uint64_t);

// The bytes of `text`, which are at most a word's, and then zeros.
std::uint64_t word_of(std::string_view text) {
  std::array<char, kProbed> bytes{};
  std::ranges::copy(text, bytes.begin());
  return std::bit_cast<std::uint64_t>(bytes);
}

// The same with the zeros first.
std::uint64_t end_word_of(std::string_view text) {
  return word_of(std::string(kProbed - text.size(), '\0').append(text));
}

std::uint64_t load_word(const char* at) {
  std::uint64_t word = 0;
  std::memcpy(&word, at, sizeof word);
  return word;
}

bool is_ascii(std::string_view text) {
  return std::ranges::none_of(text, [](char c) { return static_cast<unsigned char>(c) >= 0x80; });
}

}  // namespace

KeyMapper::KeyMapper(const KeyMap& map)
    : rules_(KeyMapAccess::rules(map)), matched_(rules_.size()) {
  for (std::size_t i = 0; i < rules_.size(); ++i) {
    first_step_.push_back(static_cast<std::uint32_t>(steps_.size()));
    for (std::size_t glob = 0; glob < rules_[i]->globs(); ++glob) {
      steps_.push_back({static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(glob)});
      probes_.push_back(probe_of(*rules_[i], glob));
    }
  }
}

KeyMapper::Probe KeyMapper::probe_of(const Rule& rule, std::size_t glob) {
  const std::string_view prefix = rule.head(glob);
  const std::string_view suffix = rule.tail(glob);
  const std::string_view head = prefix.substr(prefix.size() - std::min(prefix.size(), kProbed));
  const std::string_view tail = suffix.substr(0, kProbed);
  Probe probe;
  probe.min_size = rule.min_size(glob);
  probe.head_at = prefix.size() - head.size();
  probe.tail_at = std::max(suffix.size(), kProbed);
  probe.head = word_of(head);
  probe.head_mask = word_of(std::string(head.size(), '\xFF'));
  probe.tail = end_word_of(tail);
  probe.tail_mask = end_word_of(std::string(tail.size(), '\xFF'));
  return probe;
}

// What begins and ends with the rule's texts is at least as long as each of them, so that the words
// are within the name.
bool KeyMapper::may_match(const Probe& probe, std::string_view name) noexcept {
  if (name.size() < probe.min_size) return false;
  if (name.size() < kProbed) return true;
  const char* const end = name.data() + name.size();
  return ((load_word(name.data() + probe.head_at) ^ probe.head) & probe.head_mask) == 0 &&
         ((load_word(end - probe.tail_at) ^ probe.tail) & probe.tail_mask) == 0;
}

Result<KeyMapper::Stop> KeyMapper::run(std::string_view name, std::size_t first) {
  const std::size_t first_step = first < rules_.size() ? first_step_[first] : probes_.size();
  for (std::size_t i = first_step; i < probes_.size(); ++i) {
    if (!may_match(probes_[i], name)) continue;
    const Step& step = steps_[i];
    const Rule& rule = *rules_[step.rule];
    if (rule.fuses()) {
      if (!rule.olds[step.glob].match(name, captured_)) continue;
      matched_[step.rule] = true;
      return Stop{name, step.rule, step.glob};
    }
    FLATBED_ASSIGN(const bool matches, apply(rule, name));
    if (!matches) continue;
    FLATBED_TRY(check_new(rule, name));
    matched_[step.rule] = true;
    std::swap(current_, next_);
    name = current_;
  }
  return Stop{name, rules_.size(), 0};
}

Result<std::string_view> KeyMapper::name_of(const Rule& rule, std::size_t number,
                                            std::string_view name,
                                            std::span<const std::string_view> captured) {
  make_new(rule.news[number], captured);
  FLATBED_TRY(check_new(rule, name));
  return std::string_view(next_);
}

Result<bool> KeyMapper::apply(const Rule& rule, std::string_view name) {
  switch (rule.kind) {
    case Rule::Kind::strip_prefix:
      if (!name.starts_with(rule.prefix)) return false;
      next_ = name.substr(rule.prefix.size());
      return true;
    case Rule::Kind::add_prefix:
      next_.assign(rule.prefix).append(name);
      return true;
    case Rule::Kind::replace:
      if (!rule.olds.front().match(name, captured_)) return false;
      make_new(rule.news.front(), captured_);
      return true;
    case Rule::Kind::cat:
    case Rule::Kind::split:
      return false;  // names stop there
    case Rule::Kind::callback:
      break;
  }
  FLATBED_ASSIGN(next_, rule.callback(name));
  return true;
}

void KeyMapper::make_new(const Rule::NewName& parts, std::span<const std::string_view> captured) {
  next_.clear();
  for (const Rule::Piece& piece : parts) {
    next_ += piece.literal;
    if (piece.capture != 0) next_ += captured[piece.capture - 1];
    if (next_.size() > KeyMap::kMaxNameNbytes) break;  // check_new() refuses it
  }
}

Result<void> KeyMapper::check_new(const Rule& rule, std::string_view name) const {
  if (next_.empty()) {
    return make_error(ErrorCode::invalid_argument, rule.describe(), " makes the name ",
                      quoted(name), " empty");
  }
  if (next_.size() > KeyMap::kMaxNameNbytes) {
    return make_error(ErrorCode::limit_exceeded, rule.describe(), " makes too long a name of ",
                      quoted(name), ": the limit is ", KeyMap::kMaxNameNbytes, " bytes");
  }
  if (is_ascii(next_) || is_wtf8(next_) || !is_wtf8(name)) return {};
  return make_error(ErrorCode::invalid_argument, rule.describe(), " makes the name ", quoted(next_),
                    " of ", quoted(name), ", which is not UTF-8");
}

Result<void> KeyMapper::check_matched() const {
  for (std::size_t i = 0; i < rules_.size(); ++i) {
    const Rule& rule = *rules_[i];
    if (matched_[i] || rule.unmatched == Unmatched::allow) continue;
    return make_error(ErrorCode::tensor_not_found, rule.describe(), " matches no name");
  }
  return {};
}

}  // namespace flatbed
