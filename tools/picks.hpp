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

// In the order in which frameworks look for them. Nothing where the root is a state dict, or no
// structure is recorded. Bounded: what lies deeper than three levels is not looked for.
[[nodiscard]] std::vector<Pick> find_picks(const Checkpoint& checkpoint);

// "net.Net" of a whole module; nothing, where the value is none.
[[nodiscard]] std::optional<std::string> module_name(Value value);

// "--select ema (whole model net.Net, 14 tensors), --select model (...), and 3 more".
[[nodiscard]] std::string picks_text(const std::vector<Pick>& picks);

// An array of {select, kind, tensors}.
void write_picks(const std::vector<Pick>& picks, JsonWriter& json);

}  // namespace flatbed::tool
