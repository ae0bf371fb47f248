// FusedState: the state of a view in which tensors of another checkpoint have other names, or are
// put together of slices of them. rename() makes it. Shares the ownership of the state that it is a
// view of. Immutable once its index is built.
//
// A slice along a dimension is runs of a tensor's bytes, `source_pitch` apart. In the new tensor
// they are `pitch` apart:
//
//   q    qqqqqqqqqqqq          new = cat(q, k, dim=1) of 3 rows:
//   k    kkkkkk                3 runs of 4 bytes of q, 3 runs of 2 bytes of k
//   new  qqqqkkqqqqkkqqqqkk
//            ^ begin |<--->| pitch of k
//
// Along the first dimension there is one run of each, which is read straight into place.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "base/dims_pool.hpp"
#include "checkpoint/checkpoint_state.hpp"
#include "flatbed/export.hpp"
#include "io/text_list.hpp"

namespace flatbed {

class FLATBED_HIDDEN FusedState final : public CheckpointAccess::State {
 public:
  using State = CheckpointAccess::State;

  // Starts without tensors.
  explicit FusedState(std::shared_ptr<const State> from);

  // A tensor of `from`, by its number there, or one that add() made.
  using Node = std::uint32_t;
  // Elements [begin, end) of a dimension of a node, and all elements of its other dimensions.
  struct Part {
    Node node = 0;
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
  };
  // Puts at least one part together along `dim`, which all of them have; their dtypes and other
  // dimensions agree. A part that is all of a node is that node itself. Errors: invalid_argument
  // (joined in different ways along another dimension), partial_byte, size_overflow,
  // limit_exceeded.
  [[nodiscard]] Result<Node> add(std::size_t dim, std::span<const Part> parts);
  // Without name and index, if add() made it.
  [[nodiscard]] const TensorInfo& info(Node node) const {
    return is_made(node) ? made(node).info : from_->tensors[node];
  }

  // Owns the texts, which stay where they are.
  const TextList& own(TextList names);
  void reserve(std::size_t count) {
    tensors.reserve(count);
    node_of_.reserve(count);
  }
  // Adds a node to the tensors, under a name that this or `from` owns.
  void take(Node node, std::string_view name);

  [[nodiscard]] const Container& container(std::uint32_t file) const override {
    return from_->container(file);
  }
  [[nodiscard]] TensorPlace locate(std::uint32_t tensor) const override;
  [[nodiscard]] Result<void> compute(const TensorInfo& tensor, std::uint64_t offset,
                                     std::span<std::byte> out,
                                     const Reading& reading) const override;
  void append_sources(std::uint32_t tensor, std::vector<SourceTensor>& sources) const override;
  [[nodiscard]] bool append_parts(const std::shared_ptr<const State>& self, std::uint32_t tensor,
                                  const DimRange& range,
                                  std::vector<TensorPart>& parts) const override;
  [[nodiscard]] bool gathers(std::uint32_t tensor) const override;

 private:
  struct Made {
    TensorInfo info;
    std::size_t first_part = 0;
    std::uint32_t parts = 0;  // none: the tensor has no elements
    std::uint32_t dim = 0;
    Node first = 0;  // that it is made of, also if it has no elements
    std::uint32_t depth = 1;
    bool gathers = false;
  };
  class Read;

  [[nodiscard]] bool is_made(Node node) const { return node >= from_->tensors.size(); }
  [[nodiscard]] const Made& made(Node node) const { return made_[node - from_->tensors.size()]; }
  [[nodiscard]] std::span<const Part> parts_of(const Made& made) const {
    return std::span(parts_).subspan(made.first_part, made.parts);
  }
  [[nodiscard]] bool is_whole(std::size_t dim, const Part& part) const;
  [[nodiscard]] std::vector<Part> flat(std::size_t dim, std::span<const Part> parts) const;
  [[nodiscard]] Result<void> set_shape(Made& made, std::span<const Part> parts);
  [[nodiscard]] Result<void> set_joined(Made& made, std::span<const Part> parts);
  [[nodiscard]] bool node_gathers(Node node) const;
  void append_node(Node node, std::vector<SourceTensor>& sources) const;
  [[nodiscard]] bool append_node_parts(Node node, const DimRange& range,
                                       std::vector<TensorPart>& parts) const;
  [[nodiscard]] Result<void> read_node(Node node, std::uint64_t offset, std::span<std::byte> out,
                                       const Reading& reading) const;

  std::shared_ptr<const State> from_;
  std::vector<Node> node_of_;  // for each tensor
  LargeVector<Made> made_;
  LargeVector<Part> parts_;                    // of what was made
  DimsPool dims_;                              // likewise
  std::deque<std::vector<JoinedDim>> joined_;  // likewise
  TextList names_;
};

}  // namespace flatbed
