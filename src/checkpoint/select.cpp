// Checkpoint::select(): the same files under a subtree, or with globs over the names.
#include <algorithm>
#include <iterator>
#include <optional>
#include <utility>

#include "base/str_cat.hpp"
#include "checkpoint/checkpoint_state.hpp"
#include "checkpoint/glob.hpp"
#include "checkpoint/selection_state.hpp"
#include "flatbed/checkpoint.hpp"
#include "flatbed/torch_module.hpp"

namespace flatbed {

namespace {

using State = CheckpointAccess::State;

Error nothing_selected(std::string_view what) {
  return make_error(ErrorCode::tensor_not_found, "no tensor ", what);
}

Error nothing_below(std::string_view path, bool module) {
  const std::string place = path.empty() ? "the root" : quoted(path);
  return nothing_selected(module ? str_cat("in the state dict of the module at ", place)
                                 : str_cat("below ", place));
}

Result<std::shared_ptr<SelectionState>> select_subtree(const std::shared_ptr<const State>& from,
                                                       ValueTree tree, NodeId root) {
  auto state = std::make_shared<SelectionState>(from);
  FLATBED_TRY(state->take_tree(std::move(tree), root));
  return state;
}

// The state dict of a module. As in torch, its tensors are values, not parameters.
Result<std::shared_ptr<SelectionState>> select_state_dict(const std::shared_ptr<const State>& from,
                                                          const TorchModule& module,
                                                          const ValueTree& whole) {
  FLATBED_ASSIGN(StateDict weights, state_dict(module));
  ValueTree tree = whole;
  const NodeId root = add_state_dict(tree, weights);
  FLATBED_ASSIGN(auto state, select_subtree(from, std::move(tree), root));
  std::ranges::move(weights.notes, std::back_inserter(state->notes));
  return state;
}

// Adds everything that `rename` gives a new name: tensors, then aliases. An alias whose tensor was
// not selected becomes a tensor, so that nothing requested is lost.
template <typename Rename>
void take_renamed(SelectionState& state, Rename rename) {
  const State& from = state.from();
  std::vector<std::optional<std::uint32_t>> taken(from.tensors.size());
  const auto take_as = [&](std::uint32_t tensor, std::string_view name) {
    taken[tensor] = static_cast<std::uint32_t>(state.tensors.size());
    state.take(tensor, name);
  };
  for (const TensorInfo& tensor : from.tensors) {
    if (const std::optional<std::string_view> name = rename(tensor.name))
      take_as(tensor.index, *name);
  }
  for (const Alias& alias : from.aliases) {
    const std::optional<std::string_view> name = rename(alias.name);
    const TensorInfo* target = from.find_tensor(alias.target);
    if (!name || target == nullptr) continue;
    if (const auto number = taken[target->index]) {
      state.aliases.push_back({std::string(*name), std::string(state.tensors[*number].name)});
    } else {
      take_as(target->index, *name);
    }
  }
}

// Without a recorded structure, a path is a prefix of names.
Result<std::shared_ptr<SelectionState>> select_prefix(const std::shared_ptr<const State>& from,
                                                      std::string_view path) {
  auto state = std::make_shared<SelectionState>(from);
  const std::string prefix = str_cat(path, ".");
  take_renamed(*state, [&](std::string_view name) {
    return name.starts_with(prefix) ? std::optional(name.substr(prefix.size())) : std::nullopt;
  });
  if (state->tensors.empty()) {
    return make_error(ErrorCode::path_not_found,
                      "the file has no structure, and no tensor's name begins with ",
                      quoted(prefix));
  }
  return state;
}

bool matches_any(const std::vector<std::string>& globs, std::string_view name) {
  return std::any_of(globs.begin(), globs.end(),
                     [&](const std::string& glob) { return glob_matches(glob, name); });
}

Result<std::shared_ptr<SelectionState>> select_globs(const std::shared_ptr<const State>& from,
                                                     const Selection& selection) {
  auto state = std::make_shared<SelectionState>(from);
  take_renamed(*state, [&](std::string_view name) {
    const bool wanted = (selection.include.empty() || matches_any(selection.include, name)) &&
                        !matches_any(selection.exclude, name);
    return wanted ? std::optional(name) : std::nullopt;
  });
  if (state->tensors.empty()) return nothing_selected("matches include and exclude");
  return state;
}

}  // namespace

Result<Checkpoint> Checkpoint::select(const Selection& selection) const {
  Checkpoint selected = *this;
  if (has_tree() && (!selection.path.empty() || selection.state_dict)) {
    FLATBED_ASSIGN(const Value root, tree());
    FLATBED_ASSIGN(const Value subtree, root.at(selection.path));
    const auto module = selection.state_dict ? TorchModule::of(subtree) : std::nullopt;
    if (module || !selection.path.empty()) {
      const ValueTree& whole = *state_->decoded_tree();
      FLATBED_ASSIGN(std::shared_ptr<SelectionState> state,
                     module ? select_state_dict(state_, *module, whole)
                            : select_subtree(state_, whole, subtree.id()));
      FLATBED_TRY(state->build_index());
      if (state->tensors.empty()) return nothing_below(selection.path, module.has_value());
      selected = Checkpoint(std::move(state));
    }
  } else if (!selection.path.empty()) {
    FLATBED_ASSIGN(std::shared_ptr<SelectionState> state, select_prefix(state_, selection.path));
    FLATBED_TRY(state->build_index());
    selected = Checkpoint(std::move(state));
  }
  if (selection.include.empty() && selection.exclude.empty()) return selected;
  FLATBED_ASSIGN(std::shared_ptr<SelectionState> state, select_globs(selected.state_, selection));
  FLATBED_TRY(state->build_index());
  return Checkpoint(std::move(state));
}

}  // namespace flatbed
