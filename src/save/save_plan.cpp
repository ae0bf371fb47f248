// make_plan(): turns a checkpoint into the plan of a file of its own.
#include "flatbed/save_plan.hpp"

#include <algorithm>

#include "base/checked.hpp"
#include "base/str_cat.hpp"
#include "checkpoint/checkpoint_access.hpp"
#include "safetensors/seal.hpp"

namespace flatbed {

namespace {

constexpr std::uint64_t kExpansionFactor = 16;
constexpr std::uint64_t kExpansionFloor = std::uint64_t{1} << 30;

// A few stored bytes can describe exabytes (strides of 0, deflated zeros), so the bytes written are
// bounded by the bytes read.
Result<void> check_expansion(const Checkpoint& checkpoint) {
  std::uint64_t stored = 0;
  for (const FileInfo& file : checkpoint.files()) stored += file.nbytes;
  std::optional<std::uint64_t> wanted = 0;
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    if (wanted) wanted = checked_add(*wanted, tensor.nbytes);
  }
  if (wanted && (*wanted <= kExpansionFloor || *wanted / kExpansionFactor <= stored)) return {};
  return make_error(ErrorCode::expansion_refused, "the output is too large: found ",
                    wanted ? str_cat(*wanted) : "more than 2^64", " bytes for ", stored,
                    " stored ones, more than ", kExpansionFactor, " times as much");
}

SaveItem item_of(const Checkpoint& checkpoint, const TensorInfo& tensor, std::string name) {
  return {std::move(name),
          tensor.dtype,
          {tensor.shape.begin(), tensor.shape.end()},
          TensorRef{checkpoint, tensor.index}};
}

}  // namespace

Result<SavePlan> make_plan(const Checkpoint& checkpoint, const SavePlanOptions& options) {
  if (!options.allow_expansion) FLATBED_TRY(check_expansion(checkpoint));
  SavePlan plan;
  plan.sources.push_back(checkpoint);
  plan.items.reserve(checkpoint.tensors().size());
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    plan.items.push_back(item_of(checkpoint, tensor, std::string(tensor.name)));
  }
  if (checkpoint.has_tree()) {
    FLATBED_ASSIGN(plan.tree, CheckpointAccess::copy_tree(checkpoint));
  }
  for (const Alias& alias : checkpoint.aliases()) {
    const TensorInfo* target = checkpoint.find(alias.target);
    if (!options.expand_aliases) {
      plan.aliases.push_back(alias);
    } else if (target != nullptr) {
      plan.items.push_back(item_of(checkpoint, *target, alias.name));
    }
  }
  // L9: if the plan has more tensors than the source, other metadata may no longer be true.
  const bool same = plan.items.size() == checkpoint.tensors().size();
  for (const auto& [key, value] : checkpoint.metadata()) {
    if (!safetensors::is_seal_key(key) && (same || key == "format"))
      plan.metadata.emplace_back(key, value);
  }
  return plan;
}

}  // namespace flatbed
