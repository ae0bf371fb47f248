// Names for the tensors of a value tree, and aliases for their further occurrences (spec N1 to N3,
// A1). Pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "flatbed/result.hpp"
#include "flatbed/tensor.hpp"
#include "flatbed/value.hpp"
#include "io/name_index.hpp"
#include "io/text_list.hpp"

namespace flatbed {

struct TensorNames {
  TextList names;  // in the order of first occurrence
  // The tensor, by the number its nodes hold, that each name belongs to.
  std::vector<std::uint32_t> order;
  std::vector<Alias> aliases;  // in text order
  NameIndex index;             // of the names, then of the aliases
  // Names that the parameters and buffers of lazy modules that have not run would have as tensors.
  // They are objects without values. Holds the first kMaxUninitialized of them.
  std::vector<std::string> uninitialized;
  std::uint64_t uninitialized_count = 0;
};
inline constexpr std::size_t kMaxUninitialized = 8;

// Walks the tree in text order. `expected` is about its number of tensors. Tensors that the root
// does not reach get no name. Errors: limit_exceeded if the names would be longer than any header,
// or an int key has more than 4,096 digits.
[[nodiscard]] Result<TensorNames> name_tensors(const ValueTree& tree, std::size_t expected = 0);

}  // namespace flatbed
