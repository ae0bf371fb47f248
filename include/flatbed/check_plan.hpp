// check_plan_tree(): whether a plan's tree is one that a file may have, for programs that build
// trees of what their own users hand them.
//
//   FLATBED_ASSIGN(SavePlan plan, make_plan(checkpoint));
//   plan.tree.set_root(plan.tree.add_list());
//   FLATBED_TRY(check_plan_tree(plan));
//
// Of this, save() and save_torch() check only that its tensors are items of the plan: keys must be
// distinct and texts UTF-8. May be called from several threads at once.
#pragma once

#include "flatbed/export.hpp"
#include "flatbed/result.hpp"
#include "flatbed/save_plan.hpp"

namespace flatbed {

// Checks everything that reading the tree checks. A plan without a tree is right. Errors: tree_*,
// with a JSON pointer to the place; tree_not_representable, header_over_limit.
[[nodiscard]] FLATBED_EXPORT Result<void> check_plan_tree(const SavePlan& plan);

}  // namespace flatbed
