// Checkpoint::State: the state that a Checkpoint handle shares. There are five classes: a file
// (open_file.cpp), a set (open_set.cpp), and three views of another state: a selection
// (selection_state.hpp), one with other names, joins and splits (fused_state.hpp), which rename()
// makes, and one with casts (cast.cpp). Immutable once its maker returns, except for the tree,
// which is decoded on first use under a once_flag. Const members are thread-safe.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
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

// Tensors that are put together of strided runs are read in steps of this size, because smaller
// ones would read what they are made of again and again.
inline constexpr std::uint64_t kGatheredStepNbytes = 16 << 20;
// Of other tensors that are computed: the stored bytes behind a step, which may be an eighth of it,
// do not always begin and end where chunks do.
inline constexpr std::uint64_t kComputedStepNbytes = 2 << 20;

struct Checkpoint::State {
  class RereadTensor;

  State() = default;
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  virtual ~State();

  // Of `files`.
  [[nodiscard]] virtual const Container& container(std::uint32_t file) const = 0;
  // Of `tensors`. Of one that is computed: the first stored tensor that it is computed of.
  [[nodiscard]] virtual TensorPlace locate(std::uint32_t tensor) const = 0;

  // Fills `out` from byte `offset` of a tensor that is Stored::computed. The caller has checked the
  // range. A view of another state passes it on, and so it does with append_sources(),
  // append_parts() and gathers().
  [[nodiscard]] virtual Result<void> compute(const TensorInfo& tensor, std::uint64_t offset,
                                             std::span<std::byte> out,
                                             const Reading& reading) const;
  // Appends the stored tensors that one of `tensors` is made of: itself, unless it is computed.
  virtual void append_sources(std::uint32_t tensor, std::vector<SourceTensor>& sources) const;
  // Appends what CheckpointAccess::parts() gives for one of `tensors`; `self` owns this state.
  // False if that is nothing: then what was appended has no meaning.
  [[nodiscard]] virtual bool append_parts(const std::shared_ptr<const State>& self,
                                          std::uint32_t tensor, const DimRange& range,
                                          std::vector<TensorPart>& parts) const;
  // Whether one of `tensors` is put together of strided runs.
  [[nodiscard]] virtual bool gathers(std::uint32_t tensor) const;

  // Decodes aliases_text, adds the aliases to `index` and checks that every name occurs once. The
  // tensors must be complete.
  [[nodiscard]] Result<void> build_index();

  // The text of entry `number` of `index`.
  [[nodiscard]] std::string_view name_of(std::uint32_t number) const {
    return number < tensors.size() ? tensors[number].name
                                   : std::string_view(aliases[number - tensors.size()].name);
  }
  // The name of a tensor (not of an alias), or nullptr.
  [[nodiscard]] const TensorInfo* find_tensor(std::string_view name) const;
  // The value of tree(), decoded on the first call.
  [[nodiscard]] const Result<ValueTree>& decoded_tree() const;

  // The bytes of a tensor that whoever works through it reads at once: a chunk, which is hashed and
  // used while it is in a cache of the processor, or more.
  [[nodiscard]] std::uint64_t step_nbytes(const TensorInfo& tensor) const;

  // Reads the tensor's bytes, however it is stored. The range is checked by the caller. Errors
  // begin with the path of the file.
  [[nodiscard]] Result<void> read(const TensorInfo& tensor, std::uint64_t offset,
                                  std::span<std::byte> out, const Reading& reading) const;
  // Reads the tensor's bytes unverified; it is not computed. The range is checked by the caller. A
  // record that does not inflate is read again where that may help.
  [[nodiscard]] Result<void> read_stored(const TensorInfo& tensor, std::uint64_t offset,
                                         std::span<std::byte> out, ReadTally& tally) const;
  [[nodiscard]] Result<void> read_once(const TensorInfo& tensor, std::uint64_t offset,
                                       std::span<std::byte> out) const;
  // The same bytes past every copy kept on the way.
  [[nodiscard]] Result<void> reread_stored(const TensorInfo& tensor, std::uint64_t offset,
                                           std::span<std::byte> out) const;
  // Of bytes that read_stored() gave: if they are a whole record that states a CRC and come from a
  // source where they may have been damaged on the way, compares them. Errors: zip_crc_mismatch.
  [[nodiscard]] Result<void> check_record(const TensorInfo& tensor, std::uint64_t offset,
                                          std::span<std::byte> out, ReadTally& tally) const;
  // The same, but verifies every chunk touched.
  [[nodiscard]] Result<std::size_t> read_chunks(const TensorInfo& tensor, std::uint64_t offset,
                                                std::span<std::byte> out, ReadTally& tally) const;
  [[nodiscard]] Result<void> read_verified(const TensorInfo& tensor, std::uint64_t offset,
                                           std::span<std::byte> out, ReadTally& tally) const;
  // Checks a chunk that was just read, which is read again where that may help.
  [[nodiscard]] Result<void> check_read(const TensorInfo& tensor, std::uint64_t chunk,
                                        std::span<std::byte> bytes, ReadTally& tally) const;
  [[nodiscard]] Result<void> check_chunk(const TensorInfo& tensor, std::uint64_t chunk,
                                         std::uint64_t digest) const;

  Layout layout = Layout::safetensors;
  SealState seal = SealState::unsealed;
  std::vector<FileInfo> files;
  std::filesystem::path index_file;  // that of a set; empty if there is none
  LargeVector<TensorInfo> tensors;
  std::vector<Alias> aliases;
  std::optional<Error> aliases_error;  // the reason that aliases cannot be looked up
  NameIndex index;                     // names of tensors, then of aliases
  std::vector<std::pair<std::string_view, std::string_view>> metadata;
  std::vector<std::string> notes;
  // Tensors that an index lists in files that do not have them: name, file.
  std::map<std::string, std::string, std::less<>> missing;
  std::optional<std::string_view> tree_text;     // flatbed.tree, if a seal covers it
  std::optional<std::string_view> aliases_text;  // flatbed.aliases, likewise
  bool has_tree = false;                         // a structure is recorded

 protected:
  // A tree that is known from the start.
  void set_tree(ValueTree tree) {
    tree_.emplace(std::move(tree));
    has_tree = true;
  }
  // That of another state with the same tensors, or the error that it gives.
  void share_tree(const Result<ValueTree>& tree) {
    tree_.emplace(tree);
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
