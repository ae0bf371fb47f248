// Values of a checkpoint's tree as one line of text, and their entries with labels. Pure functions
// over borrowed values; they never follow a value deeper than a few levels.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "flatbed/tensor.hpp"
#include "flatbed/value.hpp"

namespace flatbed::tool {

// A value inside a container, and how to call it: a key, an index, "state".
struct Entry {
  std::string label;
  Value value;
};
[[nodiscard]] std::vector<Entry> entries(Value container);

// What values need to become text: the tensors that the tree belongs to, and which nodes are
// written elsewhere too (those never stand within another value's line). Borrows.
struct TextContext {
  std::span<const TensorInfo> tensors;
  std::function<bool(NodeId)> shared;
  bool folded = false;  // config_value() stands for a value
};

// The whole value, where it is a leaf or so small a container that a line holds it.
[[nodiscard]] std::optional<std::string> inline_text(Value value, const TextContext& context);

// The value that an object of omegaconf stands for, without where it stands in its config and what
// is allowed there; of all other values the same one.
[[nodiscard]] Value config_value(Value value);

// What a container is and how many entries it has: "dict (3)".
[[nodiscard]] std::string head_text(Value container);

// The dotted name of the class that an object was made from: "collections.OrderedDict"; of a
// global, the global itself.
[[nodiscard]] std::string class_name(Value object_or_global);

}  // namespace flatbed::tool
