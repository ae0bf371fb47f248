// KeyMapper: runs the rules of a KeyMap over many names and remembers which of them matched. A rule
// that joins or splits tensors is where a name stops: the caller does the rest, and goes on with
// the names of what it made. Borrows the map. For one thread.
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
  using Rule = KeyMapAccess::Rule;

  explicit KeyMapper(const KeyMap& map);

  // A name before the rule that joins or splits its tensor, or after all rules.
  struct Stop {
    std::string_view name;  // the one given, or a text that is valid until the next call
    std::size_t rule = 0;   // the number of rules: after all of them
    std::size_t glob = 0;   // of the rule, that matches
  };
  // Runs the rules from number `first` on. Errors: those of KeyMap::map().
  [[nodiscard]] Result<Stop> run(std::string_view name, std::size_t first = 0);

  // What `rule` calls its result number `number`, made of tensors of which the first is `name`,
  // with these captures. Valid until the next call. Errors: those of KeyMap::map().
  [[nodiscard]] Result<std::string_view> name_of(const Rule& rule, std::size_t number,
                                                 std::string_view name,
                                                 std::span<const std::string_view> captured);

  // Whether every rule that must match has matched. Errors: tensor_not_found.
  [[nodiscard]] Result<void> check_matched() const;

 private:
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

  // A glob of a rule, or a rule without any.
  struct Step {
    std::uint32_t rule = 0;
    std::uint32_t glob = 0;
  };

  [[nodiscard]] static Probe probe_of(const Rule& rule, std::size_t glob);
  [[nodiscard]] static bool may_match(const Probe& probe, std::string_view name) noexcept;

  // Whether the rule matches `name`; then the new name is in next_.
  [[nodiscard]] Result<bool> apply(const Rule& rule, std::string_view name);
  void make_new(const Rule::NewName& parts, std::span<const std::string_view> captured);
  [[nodiscard]] Result<void> check_new(const Rule& rule, std::string_view name) const;

  std::span<const std::shared_ptr<const Rule>> rules_;
  std::vector<Probe> probes_;  // for each step
  std::vector<Step> steps_;
  std::vector<std::uint32_t> first_step_;  // for each rule
  std::vector<bool> matched_;              // likewise
  std::vector<std::string_view> captured_;
  std::string current_;  // the name so far, if a rule has matched
  std::string next_;
};

}  // namespace flatbed
