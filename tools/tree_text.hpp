// The nested structure of a checkpoint as indented text, one line per entry:
//
//   dict (3)
//     epoch: 12
//     state_dict: collections.OrderedDict (214)
//       conv1.weight: F32[64, 3, 7, 7]
//       … 213 more
//     tied: -> #1
//
// A folded tree fits on a page. It shows modules by their parameters, buffers and children, similar
// entries once with a count, and no more levels than fit. It marks the parts that can be selected.
// An object that is reached again is written once, marked #1, #2 and so on, and then as "-> #1". So
// cycles end, and the output is bounded by the size of the tree. Not thread-safe.
#pragma once

#include "flatbed/checkpoint.hpp"
#include "output.hpp"

namespace flatbed::tool {

// Whether to write one page or every entry.
enum class Fold : std::uint8_t { yes, no };

// Writes the tree. Errors: tree_* if it is malformed.
[[nodiscard]] Result<void> write_tree(const Checkpoint& checkpoint, Fold fold, Output& output);

}  // namespace flatbed::tool
