#include "flatbed/load_matched.hpp"

#include "base/str_cat.hpp"

namespace flatbed {

namespace {

LoadItem item_of(const Expected& expected, const TensorInfo& tensor) {
  LoadItem item;
  item.as = expected.dtype;
  // MatchMeaning::torch lets a tensor of shape [1] fit a scalar.
  const bool one = tensor.shape.size() == 1 && tensor.shape[0] == 1;
  if (expected.shape && !(expected.shape->empty() && one)) item.shape = *expected.shape;
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
