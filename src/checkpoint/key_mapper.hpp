// KeyMapper: runs the rules of a KeyMap over many names and remembers which of them matched.
// Borrows the map. For one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/key_rule.hpp"
#include "flatbed/key_map.hpp"
#include "flatbed/result.hpp"

namespace flatbed {

class KeyMapper {
 public:
  explicit KeyMapper(const KeyMap& map);

  // The new name: `name` itself, or a text that is valid until the next call. Errors: those of
  // KeyMap::map().
  [[nodiscard]] Result<std::string_view> map(std::string_view name);

  // Whether every rule that must match has matched. Errors: tensor_not_found.
  [[nodiscard]] Result<void> check_matched() const;

 private:
  using Rule = KeyMapAccess::Rule;

  // Most rules match few names, so most names are rejected by two words: the last bytes of what
  // matching names begin with, and the first bytes of what they end with. Rules of one model differ
  // there; the outermost bytes are often the same.
  struct Probe {
    std::size_t min_size = 0;
    std::size_t head_at = 0;  // from the name's beginning
    std::size_t tail_at = 0;  // from its end
    std::uint64_t head = 0;
    std::uint64_t head_mask = 0;
    std::uint64_t tail = 0;
    std::uint64_t tail_mask = 0;
  };

  [[nodiscard]] static Probe probe_of(const Rule& rule);
  [[nodiscard]] static bool may_match(const Probe& probe, std::string_view name) noexcept;

  // Whether the rule matches `name`; then the new name is in next_.
  [[nodiscard]] Result<bool> apply(const Rule& rule, std::string_view name);
  [[nodiscard]] Result<bool> replace(const Rule& rule, std::string_view name);
  [[nodiscard]] Result<void> check_new(const Rule& rule, std::string_view name) const;

  std::span<const std::shared_ptr<const Rule>> rules_;
  std::vector<Probe> probes_;  // for each rule; likewise matched_
  std::vector<bool> matched_;
  std::vector<std::string_view> captured_;
  std::string current_;  // the name so far, if a rule has matched
  std::string next_;
};

}  // namespace flatbed
