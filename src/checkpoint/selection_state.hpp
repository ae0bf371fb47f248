// SelectionState: the state of a view of another checkpoint, which select() makes. Shares the
// ownership of the state that it is a view of. Immutable once its index is built.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "checkpoint/checkpoint_state.hpp"
#include "flatbed/export.hpp"
#include "io/text_list.hpp"
#include "value/tensor_names.hpp"

namespace flatbed {

// Some tensors of `from`, possibly under other names. Shares the ownership of `from`, which has the
// files and owns the names that are kept.
class FLATBED_HIDDEN SelectionState final : public CheckpointAccess::State {
 public:
  using State = CheckpointAccess::State;

  // Starts without tensors.
  explicit SelectionState(std::shared_ptr<const State> from) : from_(std::move(from)) {
    layout = from_->layout;
    seal = from_->seal;
    files = from_->files;
    index_file = from_->index_file;
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
  [[nodiscard]] bool append_parts(const std::shared_ptr<const State>&, std::uint32_t tensor,
                                  const DimRange& range,
                                  std::vector<TensorPart>& parts) const override {
    return from_->append_parts(from_, number_in_from_[tensor], range, parts);
  }
  [[nodiscard]] bool gathers(std::uint32_t tensor) const override {
    return from_->gathers(number_in_from_[tensor]);
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

}  // namespace flatbed
