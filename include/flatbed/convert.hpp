// make_plan(): from an open Checkpoint to a SavePlan. convert = Checkpoint::open + select +
// make_plan + save.
#pragma once

#include "flatbed/checkpoint.hpp"
#include "flatbed/export.hpp"
#include "flatbed/result.hpp"
#include "flatbed/save.hpp"

namespace flatbed {

struct PlanOptions {
  // Every alias becomes a tensor of its own, for readers that do not know aliases.
  bool expand_aliases = false;
  // Permits more than 1 GiB that is more than 16 times the stored bytes.
  bool allow_expansion = false;
};

// All tensors of the checkpoint in source order, with its tree, aliases and metadata. The plan
// holds copies of the checkpoint handle. Metadata is copied when the tensors are those of the file,
// unselected; otherwise only "format" (spec L9). Errors: tree_* when the file's tree is malformed,
// expansion_refused.
[[nodiscard]] FLATBED_EXPORT Result<SavePlan> make_plan(const Checkpoint& checkpoint,
                                                        const PlanOptions& options = {});

}  // namespace flatbed
