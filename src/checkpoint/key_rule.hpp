// KeyMap::Rule: one rule of a KeyMap, and how it is read from text. Immutable once made, so that
// maps share rules. Const members are thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/capture_glob.hpp"
#include "flatbed/key_map.hpp"

namespace flatbed {

struct KeyMap::Rule {
  enum class Kind : std::uint8_t { strip_prefix, add_prefix, replace, callback };

  // A part of NEW.
  struct Piece {
    std::string literal;
    std::size_t capture = 0;  // counted from 1 and after the literal; 0: none
  };

  // What matches begins and ends with these, and has at least this many bytes.
  [[nodiscard]] std::string_view head() const;
  [[nodiscard]] std::string_view tail() const;
  [[nodiscard]] std::size_t min_size() const;

  // "rules.txt:3: rename rule 'a=b'", for messages.
  [[nodiscard]] std::string describe() const;

  Kind kind = Kind::replace;
  std::string text;   // as in a file of rules
  std::string place;  // "rules.txt:3"; empty: not from a file
  std::string prefix;
  CaptureGlob old;
  std::vector<Piece> replacement;
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

// `text` without the blanks at its ends.
[[nodiscard]] std::string_view without_blanks(std::string_view text);

}  // namespace flatbed
