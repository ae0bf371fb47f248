#include "flatbed/load_matched.hpp"

#include "base/str_cat.hpp"

namespace flatbed {

namespace {

LoadItem item_of(const Expected& expected, const TensorInfo& tensor) {
  LoadItem item;
  item.as = expected.dtype;
  if (!expected.shape) return item;
  if (expected.shape->empty() && tensor.shape.size() == 1) {
    item.slice = {.dim = 0, .begin = 0, .end = 1};  // a scalar gets the first element
  } else {
    item.shape = *expected.shape;
  }
  return item;
}

}  // namespace

Result<LoadPlan> plan_matched(const Checkpoint& checkpoint, std::span<const Expected> expected,
                              const MatchReport& report,
                              std::span<const Destination> destinations) {
  if (destinations.size() != expected.size()) {
    return make_error(ErrorCode::invalid_argument,
                      "one destination is needed for each expected tensor: found ",
                      destinations.size(), ", expected ", expected.size());
  }
  LoadPlan plan;
  for (const MatchedPair& pair : report.matched) {
    if (pair.expected >= expected.size() || pair.tensor >= checkpoint.tensors().size()) {
      return make_error(ErrorCode::invalid_argument,
                        "the report is not of this checkpoint and these expectations");
    }
    const TensorInfo& tensor = checkpoint.tensors()[pair.tensor];
    FLATBED_TRY(plan.add(checkpoint, tensor.name, destinations[pair.expected],
                         item_of(expected[pair.expected], tensor)));
  }
  return plan;
}

}  // namespace flatbed
