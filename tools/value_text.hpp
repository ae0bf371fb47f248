// Formats values of a checkpoint's tree as one line of text, and their entries with labels. Pure
// functions over borrowed values; they follow a value only a few levels deep.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "flatbed/tensor.hpp"
#include "flatbed/value.hpp"

namespace flatbed::tool {

// A value inside a container and its label there: a key, an index or "state".
struct Entry {
  std::string label;
  Value value;
};
[[nodiscard]] std::vector<Entry> entries(Value container);

// What formatting a value needs: the tensors of the tree, and which nodes are also written
// elsewhere (those never appear within another value's line). Borrows both.
struct TextContext {
  std::span<const TensorInfo> tensors;
  std::function<bool(NodeId)> shared;
  bool folded = false;  // config objects are replaced by config_value()
};

// The whole value, if it is a leaf or a container small enough for one line.
[[nodiscard]] std::optional<std::string> inline_text(Value value, const TextContext& context);

// The value inside an omegaconf object, without its place and its constraints. Any other value is
// returned unchanged.
[[nodiscard]] Value config_value(Value value);

// The kind of a container and its number of entries: "dict (3)".
[[nodiscard]] std::string head_text(Value container);

// The dotted name of the class that made an object, such as "collections.OrderedDict"; for a
// global, its own name.
[[nodiscard]] std::string class_name(Value object_or_global);

// Whether a value is a tensor, or a tensor of a subclass, which the tree keeps as a call.
[[nodiscard]] bool is_tensor(Value value);

}  // namespace flatbed::tool
