// A checkpoint of one file of any format.
#include <memory>
#include <utility>

#include "checkpoint/checkpoint_state.hpp"

namespace flatbed {

namespace {

class FileState final : public CheckpointAccess::State {
 public:
  explicit FileState(std::unique_ptr<Container> container) : container_(std::move(container)) {
    ContainerContents contents = container_->take_contents();
    layout = container_->layout();
    seal = contents.info.seal;
    files.push_back(std::move(contents.info));
    tensors = std::move(contents.tensors);
    index = std::move(contents.index);
    aliases = std::move(contents.aliases);
    metadata = std::move(contents.metadata);
    notes = std::move(contents.notes);
    tree_text = contents.tree_text;
    aliases_text = contents.aliases_text;
    has_tree = tree_text.has_value();
    if (contents.tree) set_tree(*std::move(contents.tree));
  }

  [[nodiscard]] const Container& container(std::uint32_t) const override { return *container_; }
  [[nodiscard]] TensorPlace locate(std::uint32_t tensor) const override {
    return {*container_, tensor};
  }

 private:
  std::unique_ptr<Container> container_;
};

}  // namespace

Result<Checkpoint> open_file(std::shared_ptr<const ByteSource> source, Content content,
                             const ContainerOptions& options) {
  FLATBED_ASSIGN(std::unique_ptr<Container> container,
                 open_container(std::move(source), content, options));
  auto state = std::make_shared<FileState>(std::move(container));
  FLATBED_TRY(state->build_index());
  return CheckpointAccess::make(std::move(state));
}

}  // namespace flatbed
