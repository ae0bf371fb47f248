// Any bytes as a file, through every command.
#include "flatbed/save_plan.hpp"
#include "flatbed/verify.hpp"
#include "fuzz/check.hpp"
#include "fuzz/targets.hpp"

namespace flatbed::fuzz {

void file(std::string_view bytes) {
  const Result<Checkpoint> checkpoint = open(bytes);
  if (!checkpoint) return check_error(checkpoint.error());
  read_tensors(*checkpoint);
  const Result<Value> tree = checkpoint->tree();
  if (!tree) check_error(tree.error());
  if (!checkpoint->tensors().empty()) {
    const Result<Checkpoint> one =
        checkpoint->select({{}, {std::string(checkpoint->tensors()[0].name)}, {}});
    if (!one) check_error(one.error());
  }
  const Result<Checkpoint> weights = checkpoint->select({.state_dict = true});
  if (!weights) check_error(weights.error());
  const Result<SavePlan> plan = make_plan(*checkpoint);
  if (!plan) check_error(plan.error());
  const Result<VerifyReport> report = verify(*checkpoint, {.threads = 1});
  if (!report) check_error(report.error());
}

}  // namespace flatbed::fuzz
