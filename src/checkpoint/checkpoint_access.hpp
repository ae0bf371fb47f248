// CheckpointAccess: what the rooms above see of a Checkpoint beside its public members.
#pragma once

#include <cstdint>

#include "flatbed/checkpoint.hpp"
#include "io/container.hpp"

namespace flatbed {

// A tensor as its file knows it.
struct TensorPlace {
  const Container& container;
  std::uint32_t number = 0;  // in the container's numbering
};

struct CheckpointAccess {
  using State = Checkpoint::State;  // the room's own: checkpoint_state.hpp

  // Of one of checkpoint.files().
  [[nodiscard]] static const Container& container(const Checkpoint& checkpoint, std::uint32_t file);
  [[nodiscard]] static const ByteSource& source(const Checkpoint& checkpoint, std::uint32_t file) {
    return container(checkpoint, file).source();
  }
  // `tensor` is one of checkpoint.tensors().
  [[nodiscard]] static TensorPlace locate(const Checkpoint& checkpoint, const TensorInfo& tensor);
  // Compares the digest of a chunk with the seal's. Errors: chunk_corrupt, chunk_rewritten.
  [[nodiscard]] static Result<void> check_chunk(const Checkpoint& checkpoint,
                                                const TensorInfo& tensor, std::uint64_t chunk,
                                                std::uint64_t digest);
  // The tree behind tree(), for those who change it. Errors: those of tree().
  [[nodiscard]] static Result<ValueTree> copy_tree(const Checkpoint& checkpoint);
  // Equal for the copies of one handle.
  [[nodiscard]] static const void* identity(const Checkpoint& checkpoint) noexcept {
    return checkpoint.state_.get();
  }

  [[nodiscard]] static Checkpoint make(std::shared_ptr<const State> state) {
    return Checkpoint(std::move(state));
  }
};

}  // namespace flatbed
