// find_prefix_rule(): the change of prefixes with which most names of a checkpoint are expected
// ones. A pure function.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string_view>

#include "flatbed/match.hpp"

namespace flatbed {

// Which prefixes are tried: those that frameworks add, or also those that names have in common.
enum class PrefixSet : std::uint8_t { ready, all };

struct PrefixSearch {
  std::span<const std::string_view> keys;        // of the checkpoint
  std::span<const std::string_view> unexpected;  // those that are not expected
  std::span<const std::string_view> missing;     // expected names that are no keys
  std::size_t expected_names = 0;                // in all
  std::size_t expected = 0;                      // tensors; they may have several names
  std::size_t matches = 0;                       // of the expected tensors, as it is
  // The number of an expected name, below expected_names.
  std::function<std::optional<std::uint32_t>(std::string_view name)> name_number;
  // The tensor that an expected name belongs to.
  std::function<std::uint32_t(std::uint32_t name)> owner;
  std::function<bool(std::string_view name)> is_key;
};

// nullopt if no rule raises the number of matches. Tries each rule on a sample of the missing
// names, and the best of them on all keys.
[[nodiscard]] std::optional<PrefixRule> find_prefix_rule(const PrefixSearch& search,
                                                         PrefixSet prefixes);

}  // namespace flatbed
