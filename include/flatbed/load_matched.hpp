// plan_matched(): the LoadPlan of what match() found.
//
//   FLATBED_ASSIGN(const MatchReport report, match(checkpoint, expected));
//   FLATBED_ASSIGN(const LoadPlan plan, plan_matched(checkpoint, expected, report, destinations));
//   FLATBED_ASSIGN(const LoadReport loaded, load(plan));
//
// Missing, mismatched and forgiven tensors are not in the plan: the caller initializes them. A
// loop over MatchReport::matched with LoadPlan::add() does the same with slices and groups.
#pragma once

#include <span>

#include "flatbed/checkpoint.hpp"
#include "flatbed/export.hpp"
#include "flatbed/load.hpp"
#include "flatbed/match.hpp"
#include "flatbed/result.hpp"

namespace flatbed {

// Plans every matched tensor to the destination of the same index as in `expected`. `checkpoint`,
// `expected` and `report` are those of one call of match(). A tensor of another dtype than the
// expected one is cast to it (cast.hpp). Errors: invalid_argument if the numbers of destinations
// and expected tensors differ, the report is of something else, or a tensor cannot be cast; those
// of LoadPlan::add().
[[nodiscard]] FLATBED_EXPORT Result<LoadPlan> plan_matched(
    const Checkpoint& checkpoint, std::span<const Expected> expected, const MatchReport& report,
    std::span<const Destination> destinations);

}  // namespace flatbed
