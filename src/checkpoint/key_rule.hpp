// KeyMap::Rule: one rule of a KeyMap, and how it is read from text. Immutable once made, so that
// maps share rules. Const members are thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/str_cat.hpp"
#include "checkpoint/capture_glob.hpp"
#include "flatbed/key_map.hpp"

namespace flatbed {

struct KeyMap::Rule {
  enum class Kind : std::uint8_t { strip_prefix, add_prefix, replace, callback, cat, split };

  // A piece of NEW.
  struct Piece {
    std::string literal;
    std::size_t capture = 0;  // counted from 1 and after the literal; 0: none
  };
  using NewName = std::vector<Piece>;

  // cat and split: they take tensors off the list and put others on it.
  [[nodiscard]] bool fuses() const noexcept { return kind == Kind::cat || kind == Kind::split; }

  // The number of globs that a name may match.
  [[nodiscard]] std::size_t globs() const noexcept { return kind == Kind::cat ? olds.size() : 1; }
  // What matches glob `number` begins and ends with these, and has at least this many bytes.
  [[nodiscard]] std::string_view head(std::size_t number) const;
  [[nodiscard]] std::string_view tail(std::size_t number) const;
  [[nodiscard]] std::size_t min_size(std::size_t number) const;

  // "rules.txt:3: rename rule 'a=b'", for messages.
  [[nodiscard]] std::string describe() const;

  Kind kind = Kind::replace;
  std::string text;   // as in a file of rules
  std::string place;  // "rules.txt:3"; empty: not from a file
  std::string prefix;
  std::vector<CaptureGlob> olds;     // of cat: the parts; of replace and split: one
  std::vector<NewName> news;         // of split: the parts; of replace and cat: one
  std::vector<std::uint64_t> sizes;  // of split: for each part
  std::int64_t dim = 0;              // of cat and split
  Callback callback;
  Unmatched unmatched = Unmatched::refuse;
};

struct KeyMapAccess {
  using Rule = KeyMap::Rule;
  [[nodiscard]] static std::span<const std::shared_ptr<const Rule>> rules(const KeyMap& map) {
    return map.rules_;
  }
};

// Errors: invalid_argument if the prefix is empty.
[[nodiscard]] Result<KeyMapAccess::Rule> make_prefix_rule(KeyMapAccess::Rule::Kind kind,
                                                          std::string_view prefix);

// Reads one rule, without a comment. Errors: invalid_argument.
[[nodiscard]] Result<KeyMapAccess::Rule> parse_key_rule(std::string_view text);

// Adds a NEW to the rule, whose text and olds are set. Errors: invalid_argument.
[[nodiscard]] Result<void> add_new_name(std::string_view text, KeyMapAccess::Rule& rule);

// `text` without the blanks at its ends.
[[nodiscard]] std::string_view without_blanks(std::string_view text);

template <typename... Parts>
[[nodiscard]] Error malformed_rule(std::string_view text, const Parts&... parts) {
  return make_error(ErrorCode::invalid_argument, "rename rule ", quoted(text), ": ", parts...);
}

}  // namespace flatbed
