// Who reads which job if ranks load slices of one checkpoint together. Nothing is read but headers,
// and the memory of the plans is never touched.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <vector>

#include "ranks/joint_jobs.hpp"
#include "support/expect_error.hpp"

namespace flatbed::test {

struct JointPlanOptions {
  std::uint32_t ranks = 1;
  std::uint32_t ranks_of_node = 1;
  std::uint64_t slot_nbytes = 2 << 20;
  std::function<Slice(const TensorInfo& tensor, std::uint32_t rank)> slice;
};

class JointPlans {
 public:
  JointPlans(const Checkpoint& checkpoint, const JointPlanOptions& options) : options_(options) {
    std::vector<Bytes> descriptions;
    for (std::uint32_t rank = 0; rank < options.ranks; ++rank) {
      add_plan(checkpoint, rank);
      PlanDescription description =
          describe(LoadPlanAccess::state(plans_.back()), described_.emplace_back()).value();
      description.slot_nbytes = options.slot_nbytes;
      descriptions.push_back(encode_description(description));
    }
    joint_ = join_plans(descriptions).value();
  }

  [[nodiscard]] JointJobs jobs_of(std::uint32_t rank) {
    JointView& view =
        views_.emplace_back(joint_, LoadPlanAccess::state(plans_[rank]), described_[rank], rank);
    const std::vector<Sight> sights(options_.ranks, view.look().value());
    view.make_plan({});
    JointRanks ranks{sights, {}, rank};
    for (std::uint32_t each = 0; each < options_.ranks; ++each)
      ranks.node_of.push_back(each / options_.ranks_of_node);
    return share_jobs(joint_, view, std::move(ranks)).value();
  }

 private:
  void add_plan(const Checkpoint& checkpoint, std::uint32_t rank) {
    LoadPlan& plan = plans_.emplace_back();
    auto* memory = reinterpret_cast<std::byte*>(std::uintptr_t{1} << 40);
    for (const TensorInfo& tensor : checkpoint.tensors()) {
      const Slice slice = options_.slice(tensor, rank);
      const std::uint64_t nbytes = slice_nbytes(tensor, slice).value();
      EXPECT_OK(plan.add(checkpoint, tensor.name, {.data = memory, .capacity = nbytes},
                         {.slice = slice}));
      memory += nbytes;
    }
  }

  JointPlanOptions options_;
  std::deque<LoadPlan> plans_;
  std::deque<std::vector<std::uint32_t>> described_;
  JointPlan joint_;
  std::deque<JointView> views_;
};

}  // namespace flatbed::test
