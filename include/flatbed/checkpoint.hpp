// Checkpoint: an opened model file. Start here.
//
//   FLATBED_ASSIGN(const Checkpoint checkpoint, Checkpoint::open("model.safetensors"));
//   for (const TensorInfo& tensor : checkpoint.tensors()) use(tensor.name, tensor.shape);
//   FLATBED_ASSIGN(const TensorInfo weight, checkpoint.tensor("fc.weight"));
//   FLATBED_ASSIGN(const TensorView view, checkpoint.view(weight));
//
// open() decides by content, never by a file's extension. One class serves a .safetensors file
// (sealed by flatbed or written by anyone), a sharded set (its *.index.json, or a directory) and a
// PyTorch file of any age. A directory stands for its index, its one model file, or its complete
// shards without an index. Other sources are a ByteSource (byte_source.hpp), an
// open descriptor, or memory.
//
// A Checkpoint is a cheap, copyable handle on immutable shared state. Its const members may be
// called from several threads at once. Everything that it returns (names, shapes, values, views)
// borrows from that state and is valid as long as any copy of the handle.
//
// Opening reads only metadata, with pread into owned memory, and maps nothing. view() maps the file
// on first use; if another process then truncates the file, accessing the view raises SIGBUS.
// read() and verify() never map.
//
// A single file keeps its descriptor open. The shards of a set share at most 128 descriptors (fewer
// if the process may have only a few) and are opened again when needed. If a shard is then no
// longer the same file, the error is file_changed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "flatbed/byte_source.hpp"
#include "flatbed/cast.hpp"
#include "flatbed/export.hpp"
#include "flatbed/file_info.hpp"
#include "flatbed/page_lock.hpp"
#include "flatbed/result.hpp"
#include "flatbed/seal_state.hpp"
#include "flatbed/tensor.hpp"
#include "flatbed/value.hpp"

namespace flatbed {

class KeyMap;        // key_map.hpp
class SourceFolder;  // source_folder.hpp

// Whether read() checks the digests of the chunks that it touches, if they have any.
enum class Verify : std::uint8_t { yes, no };

struct OpenOptions {
  CheckSeal check_seal = CheckSeal::if_sealed;
  // Whether the shards of a set, and folders in their names, may be symbolic links, as in the Hub's
  // cache.
  bool follow_links = true;
};

// Which tensors of a checkpoint to keep, and where its tree begins.
struct Selection {
  std::string path = {};  // subtree by dotted path, removed from the names; "" is everything
  std::vector<std::string> include = {};  // globs (* ? [...]) over tensor names; empty: all
  std::vector<std::string> exclude = {};  // globs; overrides include
  // If `path` is a whole torch module (torch_module.hpp), select what its state_dict() returns. Any
  // other value is selected as it is.
  bool state_dict = false;
};

class FLATBED_EXPORT Checkpoint {
 public:
  // Opens `path`. Errors: the kind of file (20-29), a fault in the file (30-169), the system (1-9).
  [[nodiscard]] static Result<Checkpoint> open(const std::filesystem::path& path,
                                               const OpenOptions& options = {});
  // Opens the file in `source`, and shares its ownership. It has no sidecar. Errors: as above, with
  // those of the source preceded by its label; invalid_argument (null); unsupported_format (an
  // index, whose files a source does not have: see open_shards()).
  [[nodiscard]] static Result<Checkpoint> open(std::shared_ptr<const ByteSource> source,
                                               const OpenOptions& options = {});
  // Opens the file `name` of a folder that is not local. If the file is
  // an index, it opens the set whose shards lie beside it or below it; the files' beginnings are
  // read on several threads. Without a name, chooses among the folder's names() as for a directory.
  // Errors: as for paths, with those of the folder and its sources preceded by their labels;
  // invalid_argument (null).
  [[nodiscard]] static Result<Checkpoint> open(std::shared_ptr<const SourceFolder> folder,
                                               std::string_view name = {},
                                               const OpenOptions& options = {});
  // Opens the regular file behind `descriptor`. The descriptor stays the caller's and may be closed
  // afterwards. `label` replaces the path in messages and in files().
  [[nodiscard]] static Result<Checkpoint> open_descriptor(int descriptor, std::string label,
                                                          const OpenOptions& options = {});
  // Opens the file in `bytes`, which the checkpoint borrows: they must not change or move until its
  // last copy is gone. view() points into them.
  [[nodiscard]] static Result<Checkpoint> open_memory(std::span<const std::byte> bytes,
                                                      std::string label,
                                                      const OpenOptions& options = {});
  // Opens files as the shards of one set without an index, in the given order. Tree and metadata
  // are those of the first one. Errors: those of open(), with the shard's name; name_collision with
  // both shards' names, if two have the same name; invalid_argument (no shards); limit_exceeded.
  [[nodiscard]] static Result<Checkpoint> open_shards(
      const std::vector<std::filesystem::path>& paths, const OpenOptions& options = {});
  [[nodiscard]] static Result<Checkpoint> open_shards(
      const std::vector<std::shared_ptr<const ByteSource>>& sources,
      const OpenOptions& options = {});

  // Members that return borrowed data are deleted for temporaries, because it would dangle.
  [[nodiscard]] std::span<const TensorInfo> tensors() const&;
  std::span<const TensorInfo> tensors() const&& = delete;
  // The tensor of this name or alias; nullptr if there is none. Constant time.
  [[nodiscard]] const TensorInfo* find(std::string_view name_or_alias) const&;
  const TensorInfo* find(std::string_view) const&& = delete;
  // The same, with an error that names the closest existing name. Errors: tensor_not_found;
  // shard_tensor_missing, if an index lists the name in a file that does not have it.
  [[nodiscard]] Result<TensorInfo> tensor(std::string_view name_or_alias) const&;
  Result<TensorInfo> tensor(std::string_view) const&& = delete;

  [[nodiscard]] std::span<const Alias> aliases() const&;
  std::span<const Alias> aliases() const&& = delete;
  // The one file, or every shard: in byte order of the names in an index, or in the given order.
  [[nodiscard]] std::span<const FileInfo> files() const&;
  std::span<const FileInfo> files() const&& = delete;
  [[nodiscard]] Layout layout() const noexcept;
  [[nodiscard]] SealState seal() const noexcept;  // a set is sealed only if every shard is
  // Metadata pairs of the (first) file in file order, including flatbed's own.
  [[nodiscard]] std::span<const std::pair<std::string_view, std::string_view>> metadata() const&;
  std::span<const std::pair<std::string_view, std::string_view>> metadata() const&& = delete;
  // Facts for the user: unlisted tensors, an ignored sidecar, dropped hooks. One sentence each.
  [[nodiscard]] std::span<const std::string> notes() const&;
  std::span<const std::string> notes() const&& = delete;

  // The structure around the tensors; tensor nodes are indices into tensors(). For a file without a
  // structure it is a dict of names and aliases. Errors (tree_*) concern only the tree: the tensors
  // stay readable. Decoded on the first call.
  [[nodiscard]] Result<Value> tree() const&;
  Result<Value> tree() const&& = delete;
  [[nodiscard]] bool has_tree() const noexcept;  // false if the file records no structure

  // The bytes in place (Stored::plain and held). The first view maps the file. Errors: not_viewable
  // (other tensors, and sources without memory or a descriptor), those of mapping.
  [[nodiscard]] Result<TensorView> view(const TensorInfo& tensor) const&;
  Result<TensorView> view(const TensorInfo&) const&& = delete;

  // The memory behind bytes [offset, offset + nbytes) of what view() serves, for engines that use
  // views in place. Errors: those of view(), and buffer_too_small where the tensor has no such
  // range.
  //
  // Reads the bytes into memory, and returns when they are there; before Linux 5.14 the kernel is
  // only asked to. A file that was truncated or changed is an error here (file_changed, io_error),
  // where touching the view would be SIGBUS.
  [[nodiscard]] Result<void> prefetch(const TensorInfo& tensor, std::uint64_t offset,
                                      std::uint64_t nbytes) const;
  // Gives the memory of the pages wholly inside the range back. Views stay valid: the next access
  // reads from the page cache or the file again. Does nothing where the bytes are no mapping of a
  // file. Locked pages are invalid_argument.
  [[nodiscard]] Result<void> release(const TensorInfo& tensor, std::uint64_t offset,
                                     std::uint64_t nbytes) const;
  // prefetch(), and keeps the bytes in memory until the lock ends, which keeps the checkpoint's
  // files open as well. Errors: those of prefetch(), resource_exhausted (RLIMIT_MEMLOCK).
  [[nodiscard]] Result<PageLock> lock(const TensorInfo& tensor, std::uint64_t offset,
                                      std::uint64_t nbytes) const;

  // Reads bytes [offset, offset + out.size()) of the tensor's contiguous little-endian contents,
  // however they are stored. With Verify::yes every chunk touched is checked against its digest. A
  // mismatch is chunk_corrupt or chunk_rewritten and leaves `out` unspecified. Of a source whose
  // bytes may be damaged on the way (ByteSource::max_rereads()), what does not match is read again
  // first, and a record of a PyTorch zip that is a whole tensor, read in one call, is compared with
  // its CRC: zip_crc_mismatch.
  [[nodiscard]] Result<void> read(const TensorInfo& tensor, std::uint64_t offset,
                                  std::span<std::byte> out, Verify verify = Verify::yes) const;

  // The same files with a selection. With globs the result is a flat state dict, because a
  // structure with gaps would be neither the old one nor a new one.
  [[nodiscard]] Result<Checkpoint> select(const Selection& selection) const;

  // The same tensors and aliases under other names, in the same order, and joined or split where
  // rules say so (key_map.hpp). Without rules it is this checkpoint. Otherwise the result is a flat
  // state dict: its tree is a dict of the new names, and of the metadata only "format" is kept. The
  // bytes of joined and split tensors are put together when they are read, from stored ones, which
  // are checked against their digests: such a tensor has Stored::computed, no digests and no view.
  //
  // Errors: tensor_not_found (a rule matches no name, or finds only some of the tensors to join),
  // name_collision (two names become one), those of KeyMap::map(). Of joins and splits:
  // invalid_argument (tensors that do not fit together, sizes that do not add up), partial_byte,
  // size_overflow, limit_exceeded.
  [[nodiscard]] Result<Checkpoint> rename(const KeyMap& map) const;

  // The same checkpoint with tensors of floats as another dtype (cast.hpp); names, aliases and
  // structure stay, and of the metadata "format". Bytes are computed when they are read, from at
  // most 16 MiB of stored ones at once, which are checked against their digests first: such a
  // tensor has Stored::computed, no digests and no view. All other tensors stay as they are: those
  // of other dtypes, those that `rules` leave out, those that have the dtype already, and those to
  // which the structure gives a type of its own (complex numbers in pairs, numpy arrays). Casts of
  // a cast round once each. If nothing changes, it is this checkpoint.
  //
  // Errors: invalid_argument if `rules.to` cannot be cast to, or if `include` names a tensor
  // literally, without globs, that cannot be cast; tensor_not_found for a glob that matches no
  // name; size_overflow.
  [[nodiscard]] Result<Checkpoint> cast(const CastRules& rules) const;

 private:
  friend struct CheckpointAccess;
  struct FLATBED_HIDDEN State;
  explicit Checkpoint(std::shared_ptr<const State> state) : state_(std::move(state)) {}
  std::shared_ptr<const State> state_;
};

}  // namespace flatbed
