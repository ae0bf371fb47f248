// CheckpointAccess: what the rooms above may use of a Checkpoint besides its public members.
#pragma once

#include <cstdint>
#include <optional>

#include "flatbed/checkpoint.hpp"
#include "io/container.hpp"

namespace flatbed {

// A tensor by its number in its file.
struct TensorPlace {
  const Container& container;
  std::uint32_t number = 0;  // in the container's numbering
};

struct CheckpointAccess {
  using State = Checkpoint::State;  // for this room: checkpoint_state.hpp

  // `file` is one of checkpoint.files().
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
  // The error of a tensor that an index lists in a file that does not have it, if there is one.
  [[nodiscard]] static std::optional<Error> missing_tensor(const Checkpoint& checkpoint);
  // The tree of tree(), for callers that change it. Errors: those of tree().
  [[nodiscard]] static Result<ValueTree> copy_tree(const Checkpoint& checkpoint);
  // Equal for copies of one handle.
  [[nodiscard]] static const void* identity(const Checkpoint& checkpoint) noexcept {
    return checkpoint.state_.get();
  }

  [[nodiscard]] static Checkpoint make(std::shared_ptr<const State> state) {
    return Checkpoint(std::move(state));
  }
};

}  // namespace flatbed
