// CheckpointAccess::rank_view(): joined tensors as one of several ranks loads them.
#include <algorithm>
#include <memory>
#include <vector>

#include "checkpoint/fused_state.hpp"

namespace flatbed {

namespace {

// Of each of the tensors that one is joined of, the elements of a rank.
std::vector<FusedState::Part> parts_of(const TensorInfo& tensor, const RankCut& cut) {
  std::vector<FusedState::Part> parts;
  std::uint64_t at = 0;
  for (const std::uint64_t size : tensor.joined_along(cut.dim)) {
    const std::uint64_t each = size / cut.count;
    parts.push_back({tensor.index, at + each * cut.rank, at + each * (cut.rank + 1)});
    at += size;
  }
  return parts;
}

}  // namespace

Result<Checkpoint> CheckpointAccess::rank_view(const Checkpoint& checkpoint, const RankCut& cut) {
  auto state = std::make_shared<FusedState>(checkpoint.state_);
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    const ShapeView sizes = tensor.joined_along(cut.dim);
    const bool even =
        std::ranges::all_of(sizes, [&](std::uint64_t size) { return size % cut.count == 0; });
    FusedState::Node node = tensor.index;
    if (!sizes.empty() && even) {
      const Result<FusedState::Node> made = state->add(cut.dim, parts_of(tensor, cut));
      if (made) node = *made;
      if (!made && made.error().code != ErrorCode::partial_byte) return made.error();
    }
    state->take(node, tensor.name);
  }
  state->aliases = checkpoint.state_->aliases;
  state->aliases_error = checkpoint.state_->aliases_error;
  state->missing = checkpoint.state_->missing;
  FLATBED_TRY(state->build_index());
  return Checkpoint(std::move(state));
}

}  // namespace flatbed
