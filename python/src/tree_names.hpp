// What a tree names beyond plain data, so that a loader can refuse it before it reads a tensor.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "flatbed/value.hpp"

namespace flatbed::python {

struct TreeName {
  // "named": a class, function or constant; "value": one that is also there as it is, not only to
  // be called or as an argument of a call; "array", "scalar": of numpy; "call": of something that
  // is no name.
  std::string_view what;
  std::string name;   // "collections.OrderedDict"; of arrays and scalars their dtype.str
  std::string place;  // where it is first, "optimizer.args"; "": the root
};

// The nodes of tensors, in the order of the tree. Visits a node once, without recursion.
[[nodiscard]] std::vector<Value> tree_tensors(Value root);

// Each once, in the order of the tree. Visits a node once, without recursion.
[[nodiscard]] std::vector<TreeName> tree_names(Value root);

}  // namespace flatbed::python
