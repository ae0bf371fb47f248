// The tree and the aliases as the JSON texts of a file (spec T1 to T8, A1, A2): decodes them with
// every rule checked, and encodes them. Pure functions, thread-safe.
//
//   ["dict","epoch",3,"w",["tensor","w"]]          flatbed.tree
//   {"head":"embed"}                               flatbed.aliases
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "flatbed/result.hpp"
#include "flatbed/tensor.hpp"
#include "flatbed/value.hpp"

namespace flatbed {

// The tensor of this name (aliases do not count), or nullptr.
using TensorByName = std::function<const TensorInfo*(std::string_view)>;

// Tensor nodes of the result hold TensorInfo::index. Errors: tree_*, with a JSON pointer to the
// place.
[[nodiscard]] Result<ValueTree> decode_tree(std::string_view json,
                                            const TensorByName& tensor_by_name);

// `names` are those of the tensors, in the numbering of the tree's nodes. Objects reached more than
// once are written with id and ref. Needs no memory for a text that is longer than `max_nbytes`,
// and never writes more than 100,000,000 bytes. Errors: tree_not_representable (nesting beyond 512
// levels, a tuple that contains itself), header_over_limit.
[[nodiscard]] Result<std::string> encode_tree(const ValueTree& tree,
                                              std::span<const std::string> names,
                                              std::size_t max_nbytes = SIZE_MAX);

// Errors: aliases_malformed.
[[nodiscard]] Result<std::vector<Alias>> decode_aliases(std::string_view json,
                                                        const TensorByName& tensor_by_name);
[[nodiscard]] std::string encode_aliases(std::span<const Alias> aliases);

}  // namespace flatbed
