// Checkpoint::select(): the same files under a subtree, or with globs over the names.
#include <algorithm>
#include <iterator>
#include <optional>
#include <utility>

#include "base/str_cat.hpp"
#include "checkpoint/checkpoint_state.hpp"
#include "checkpoint/glob.hpp"
#include "flatbed/checkpoint.hpp"
#include "flatbed/torch_module.hpp"
#include "io/text_list.hpp"
#include "value/tensor_names.hpp"

namespace flatbed {

namespace {

using State = CheckpointAccess::State;

// Some tensors of `from`, possibly under other names. Shares the ownership of `from`, which has the
// files and owns the names that are kept.
class SelectionState final : public State {
 public:
  // Starts without tensors.
  explicit SelectionState(std::shared_ptr<const State> from) : from_(std::move(from)) {
    layout = from_->layout;
    seal = from_->seal;
    files = from_->files;
    notes = from_->notes;
    for (const auto& pair : from_->metadata) {
      if (pair.first == "format") metadata.push_back(pair);  // spec L9
    }
  }

  [[nodiscard]] const State& from() const noexcept { return *from_; }
  [[nodiscard]] const Container& container(std::uint32_t file) const override {
    return from_->container(file);
  }
  [[nodiscard]] TensorPlace locate(std::uint32_t tensor) const override {
    return from_->locate(number_in_from_[tensor]);
  }
  [[nodiscard]] Result<void> compute(const TensorInfo& tensor, std::uint64_t offset,
                                     std::span<std::byte> out,
                                     const Reading& reading) const override {
    return from_->compute(from_->tensors[number_in_from_[tensor.index]], offset, out, reading);
  }
  void append_sources(std::uint32_t tensor, std::vector<SourceTensor>& sources) const override {
    from_->append_sources(number_in_from_[tensor], sources);
  }

  // Adds one tensor under a name that this or `from` owns.
  void take(std::uint32_t tensor, std::string_view name) {
    TensorInfo info = from_->tensors[tensor];
    info.name = name;
    info.index = static_cast<std::uint32_t>(tensors.size());
    number_in_from_.push_back(tensor);
    tensors.push_back(info);
  }

  // The part of the tree of `from` that begins at `root`. Its tensors get new names from there.
  Result<void> take_tree(ValueTree tree, NodeId root) {
    tree.set_root(root);
    FLATBED_ASSIGN(TensorNames names, name_tensors(tree));
    names_ = std::move(names.names);
    aliases = std::move(names.aliases);
    std::vector<std::uint32_t> numbers(from_->tensors.size());
    for (std::uint32_t i = 0; i < names_.size(); ++i) {
      take(names.order[i], names_[i]);
      numbers[names.order[i]] = i;
    }
    tree.renumber_tensors(numbers);
    set_tree(std::move(tree));
    return {};
  }

 private:
  std::shared_ptr<const State> from_;
  std::vector<std::uint32_t> number_in_from_;  // for each tensor
  TextList names_;                             // the new names
};

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
