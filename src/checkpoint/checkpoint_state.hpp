// Checkpoint::State: everything behind a Checkpoint handle. Immutable once open() returns, but for
// the two things that are made on first use, each under its own once_flag: the mapping of a file,
// and the decoded tree.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/dims_pool.hpp"
#include "checkpoint/sniff.hpp"
#include "flatbed/checkpoint.hpp"
#include "io/file.hpp"
#include "io/mapped_file.hpp"
#include "io/name_index.hpp"
#include "io/text_list.hpp"
#include "safetensors/header.hpp"
#include "safetensors/seal.hpp"
#include "torch/torch_file.hpp"
#include "torch/torch_reader.hpp"

namespace flatbed {

// One open file of a checkpoint, with what its format's reader found in it: exactly one of header
// and torch is set.
struct OpenFile {
  explicit OpenFile(File opened) : file(std::move(opened)) {}

  File file;
  FileInfo info;
  std::optional<safetensors::Header> header;
  std::optional<JsonDocument>
      sidecar_json;  // owns the texts of seal_pairs where a sidecar has them
  std::vector<safetensors::MetadataPair>
      seal_pairs;  // the flatbed.* pairs, of the file or its sidecar
  std::optional<pth::TorchFile> torch;
  mutable std::optional<pth::TorchReader> torch_reader;  // thread-safe
  std::vector<std::uint32_t>
      torch_tensor;                 // torch: per tensor of `tensors`, its number in torch->tensors
  safetensors::TensorList tensors;  // of this file alone; `where.file` is not set yet
  TextList names;                   // torch: the texts behind the tensors' names
  NameIndex names_index;            // torch: of these, then of the aliases
  std::vector<Alias> aliases;
  std::vector<std::string> notes;

  // The value of a flatbed.* key, where the seal vouches for it.
  [[nodiscard]] std::optional<std::string_view> sealed_value(std::string_view key) const;

  mutable std::once_flag map_once;
  mutable std::optional<Result<MappedFile>> mapping;
};

struct Checkpoint::State {
  Layout layout = Layout::safetensors;
  SealState seal = SealState::unsealed;
  std::vector<std::unique_ptr<OpenFile>>
      opened;                              // empty for a selection, which borrows those of `base`
  std::shared_ptr<const State> base;       // of a selection: has the files
  std::shared_ptr<const State> parent;     // of a selection: owns the texts of kept names
  std::vector<std::uint32_t> base_tensor;  // of a selection: per tensor, its number in base
  std::vector<std::uint32_t> file_tensor;  // of a set: per tensor, its number in its file

  std::vector<FileInfo> files;
  safetensors::TensorList tensors;
  std::vector<Alias> aliases;
  std::optional<Error> aliases_error;  // why aliases cannot be looked up
  NameIndex index;                     // names of tensors, then of aliases
  std::vector<std::pair<std::string_view, std::string_view>> metadata;
  std::vector<std::string> notes;
  TextList names;  // of a selection with new names

  std::optional<std::string_view> tree_text;     // flatbed.tree, where a seal vouches for it
  std::optional<std::string_view> aliases_text;  // flatbed.aliases, likewise
  bool has_tree = false;                         // a structure is recorded
  mutable std::once_flag tree_once;
  mutable std::optional<Result<ValueTree>>
      tree;  // made on the first call of tree(), or with the state

  // The text of entry `number` of `index`.
  [[nodiscard]] std::string_view name_of(std::uint32_t number) const {
    return number < tensors.size() ? tensors[number].name
                                   : std::string_view(aliases[number - tensors.size()].name);
  }
  // Decodes aliases_text, fills `index` up and checks that every name is there once. Tensors are
  // complete.
  [[nodiscard]] Result<void> build_index();

  // The name of a tensor alone, or nullptr.
  [[nodiscard]] const TensorInfo* find_tensor(std::string_view name) const;
  // The tree behind tree(), once that has returned a value.
  [[nodiscard]] const ValueTree& decoded_tree() const { return **tree; }
  // Decodes or makes up the tree that tree() serves.
  [[nodiscard]] Result<ValueTree> make_tree() const;
  // The tensor's number in OpenFile::tensors of its file.
  [[nodiscard]] std::uint32_t number_in_file(const TensorInfo& tensor) const;
  // The file that holds a tensor, and what its reader says about it there; only of PyTorch files.
  [[nodiscard]] const OpenFile& file_of(const TensorInfo& tensor) const {
    return *(base ? *base : *this).opened[tensor.where.file];
  }
  [[nodiscard]] const pth::TorchTensor& torch_tensor(const TensorInfo& tensor) const;
  // The tensor's bytes, unverified. The range was checked.
  [[nodiscard]] Result<void> read_stored(const TensorInfo& tensor, std::uint64_t offset,
                                         std::span<std::byte> out) const;
  // The same, every chunk touched checked.
  [[nodiscard]] Result<void> read_verified(const TensorInfo& tensor, std::uint64_t offset,
                                           std::span<std::byte> out) const;
  [[nodiscard]] Result<void> check_chunk(const TensorInfo& tensor, std::uint64_t chunk,
                                         std::uint64_t digest) const;
};

// What other units of the library may see of a Checkpoint.
struct CheckpointAccess {
  using State = Checkpoint::State;
  [[nodiscard]] static Checkpoint make(std::shared_ptr<const State> state) {
    return Checkpoint(std::move(state));
  }
  [[nodiscard]] static const State& state(const Checkpoint& checkpoint) {
    return *checkpoint.state_;
  }
  // One of checkpoint.files(), open.
  [[nodiscard]] static const OpenFile& opened(const Checkpoint& checkpoint, std::uint32_t index) {
    const State& state = *checkpoint.state_;
    return *(state.base ? *state.base : state).opened[index];
  }
  [[nodiscard]] static const File& file(const Checkpoint& checkpoint, std::uint32_t index) {
    return opened(checkpoint, index).file;
  }
  [[nodiscard]] static std::shared_ptr<const State> share(const Checkpoint& checkpoint) {
    return checkpoint.state_;
  }
};

// open_file.cpp: one file of any layout.
[[nodiscard]] Result<std::unique_ptr<OpenFile>> open_safetensors(File file,
                                                                 const OpenOptions& options);
// A file whose content may be a PyTorch file's.
[[nodiscard]] Result<std::unique_ptr<OpenFile>> open_torch(File file, Content content);
[[nodiscard]] Layout layout_of(const OpenFile& open);
// Errors when options demand more than this seal gives.
[[nodiscard]] Result<void> check_seal(const FileInfo& info, CheckSeal wanted);
// One file, as a checkpoint of its own.
[[nodiscard]] Result<Checkpoint> checkpoint_of(std::unique_ptr<OpenFile> file, Layout layout);

// open_set.cpp: the set that an index describes; `directory` holds its files.
[[nodiscard]] Result<Checkpoint> open_set(const File& index, const OpenOptions& options);
// The files that an index names, unopened.
[[nodiscard]] Result<std::vector<std::filesystem::path>> list_shards(const File& index);
// The one index of a directory, or its only safetensors file.
[[nodiscard]] Result<std::filesystem::path> find_index(const std::filesystem::path& directory);

}  // namespace flatbed
