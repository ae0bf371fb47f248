// Checkpoint::State: everything behind a Checkpoint handle. One of three classes: a file
// (open_file.cpp), a set (open_set.cpp) or a selection of what another state has (select.cpp).
//
// Immutable once open() or select() returns, but for the tree, which is decoded on first use under
// a once_flag. Const members are thread-safe.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/checkpoint_access.hpp"
#include "checkpoint/sniff.hpp"
#include "flatbed/checkpoint.hpp"
#include "io/container.hpp"
#include "io/name_index.hpp"

namespace flatbed {

struct Checkpoint::State {
  State() = default;
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  virtual ~State();

  // Of `files`.
  [[nodiscard]] virtual const Container& container(std::uint32_t file) const = 0;
  // Of `tensors`.
  [[nodiscard]] virtual TensorPlace locate(std::uint32_t tensor) const = 0;

  // Decodes aliases_text, fills `index` up and checks that every name is there once. Tensors are
  // complete.
  [[nodiscard]] Result<void> build_index();

  // The text of entry `number` of `index`.
  [[nodiscard]] std::string_view name_of(std::uint32_t number) const {
    return number < tensors.size() ? tensors[number].name
                                   : std::string_view(aliases[number - tensors.size()].name);
  }
  // The name of a tensor alone, or nullptr.
  [[nodiscard]] const TensorInfo* find_tensor(std::string_view name) const;
  // What tree() serves, decoded on the first call.
  [[nodiscard]] const Result<ValueTree>& decoded_tree() const;

  // The tensor's bytes, unverified. The range was checked.
  [[nodiscard]] Result<void> read_stored(const TensorInfo& tensor, std::uint64_t offset,
                                         std::span<std::byte> out) const;
  // The same, every chunk touched checked.
  [[nodiscard]] Result<void> read_verified(const TensorInfo& tensor, std::uint64_t offset,
                                           std::span<std::byte> out) const;
  [[nodiscard]] Result<void> check_chunk(const TensorInfo& tensor, std::uint64_t chunk,
                                         std::uint64_t digest) const;

  Layout layout = Layout::safetensors;
  SealState seal = SealState::unsealed;
  std::vector<FileInfo> files;
  LargeVector<TensorInfo> tensors;
  std::vector<Alias> aliases;
  std::optional<Error> aliases_error;  // why aliases cannot be looked up
  NameIndex index;                     // names of tensors, then of aliases
  std::vector<std::pair<std::string_view, std::string_view>> metadata;
  std::vector<std::string> notes;
  std::optional<std::string_view> tree_text;     // flatbed.tree, where a seal vouches for it
  std::optional<std::string_view> aliases_text;  // flatbed.aliases, likewise
  bool has_tree = false;                         // a structure is recorded

 protected:
  // A tree that is known with the state.
  void set_tree(ValueTree tree) {
    tree_.emplace(std::move(tree));
    has_tree = true;
  }

 private:
  [[nodiscard]] Result<ValueTree> make_tree() const;

  mutable std::once_flag tree_once_;
  mutable std::optional<Result<ValueTree>> tree_;
};

// open_file.cpp: one file, as a checkpoint of its own.
[[nodiscard]] Result<Checkpoint> open_file(std::shared_ptr<const ByteSource> source,
                                           Content content, const ContainerOptions& options);

}  // namespace flatbed
