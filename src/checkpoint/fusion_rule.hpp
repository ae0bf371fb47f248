// The rules of a KeyMap that join and split tensors: how they are read from text, and made of
// parts.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/key_rule.hpp"
#include "flatbed/result.hpp"

namespace flatbed {

// Whether what follows the = of a rule is cat(...) or split(...), and no NEW.
[[nodiscard]] bool is_fusion(std::string_view right) noexcept;

// Reads such a rule; `left` and `right` are the parts of `text` beside the =, without blanks at
// their ends. Errors: invalid_argument.
[[nodiscard]] Result<KeyMapAccess::Rule> parse_fusion_rule(std::string_view text,
                                                           std::string_view left,
                                                           std::string_view right);

struct CatRule {
  std::string name;
  std::vector<std::string> parts;
  std::int64_t dim = 0;
};
struct SplitRule {
  std::vector<std::string> names;
  std::string whole;
  std::vector<std::uint64_t> sizes;
  std::int64_t dim = 0;
};

// As in a file of rules, for messages.
[[nodiscard]] std::string text_of(const CatRule& cat);
[[nodiscard]] std::string text_of(const SplitRule& split);

// Errors: invalid_argument, with `text`.
[[nodiscard]] Result<KeyMapAccess::Rule> make_rule(std::string_view text, const CatRule& cat);
[[nodiscard]] Result<KeyMapAccess::Rule> make_rule(std::string_view text, const SplitRule& split);

}  // namespace flatbed
