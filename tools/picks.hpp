// The parts of a checkpoint that are a model's weights: whole modules, and state dicts. What
// `convert --select` and `ls --tree` offer.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "flatbed/checkpoint.hpp"
#include "json_out.hpp"

namespace flatbed::tool {

struct Pick {
  std::string path;  // for --select; empty: the checkpoint itself is a whole module
  std::string kind;  // "whole model net.Net", "state dict"
  std::uint64_t tensors = 0;
  NodeId node = kNoNode;
};

// Ordered as frameworks look for them. Empty if the root is a state dict or no structure is
// recorded. Parts deeper than three levels are not searched.
[[nodiscard]] std::vector<Pick> find_picks(const Checkpoint& checkpoint);

// "net.Net" for a whole module; nullopt for any other value.
[[nodiscard]] std::optional<std::string> module_name(Value value);

// "--select ema (whole model net.Net, 14 tensors), --select model (...), and 3 more".
[[nodiscard]] std::string picks_text(const std::vector<Pick>& picks);

// An array of {select, kind, tensors}.
void write_picks(const std::vector<Pick>& picks, JsonWriter& json);

}  // namespace flatbed::tool
