// tree_of(): a checkpoint's tree as one of the caller's own, to walk after the checkpoint is gone
// or to change. tree_json(): the same tree as the JSON text that flatbed writes into files.
//
//   FLATBED_ASSIGN(const std::string text, tree_json(checkpoint));
//
// May be called from several threads at once.
#pragma once

#include <string>

#include "flatbed/checkpoint.hpp"
#include "flatbed/export.hpp"
#include "flatbed/result.hpp"
#include "flatbed/value.hpp"

namespace flatbed {

// Shares the nodes of Checkpoint::tree() until it is changed, and does not need the checkpoint. Its
// tensor nodes are indices into Checkpoint::tensors(). Errors: those of Checkpoint::tree().
[[nodiscard]] FLATBED_EXPORT Result<ValueTree> tree_of(const Checkpoint& checkpoint);

// The tree as spec/FORMAT.md describes it (T), in which tensors stand by name:
// ["dict","epoch",3,"w",["tensor","w"]]. Errors: those of Checkpoint::tree(),
// tree_not_representable (nesting beyond 512 levels, a tuple that contains itself),
// header_over_limit (100,000,000 bytes).
[[nodiscard]] FLATBED_EXPORT Result<std::string> tree_json(const Checkpoint& checkpoint);

}  // namespace flatbed
