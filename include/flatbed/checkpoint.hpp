// Checkpoint: any model file, opened. Start here.
//
//   FLATBED_ASSIGN(const Checkpoint checkpoint, Checkpoint::open("model.safetensors"));
//   for (const TensorInfo& tensor : checkpoint.tensors()) use(tensor.name, tensor.shape);
//   FLATBED_ASSIGN(const TensorInfo weight, checkpoint.tensor("fc.weight"));
//   FLATBED_ASSIGN(const TensorView view, checkpoint.view(weight));
//
// open() decides by content, never by a file's extension, and serves a .safetensors file (sealed by
// flatbed or written by anyone), a sharded set (its *.index.json, or the directory that holds one)
// and a PyTorch file of any age through one class. What is not a local file comes through a
// ByteSource (byte_source.hpp), an open descriptor, or memory.
//
// A Checkpoint is a cheap, copyable handle on immutable shared state. Its const members may be
// called from any thread at once. Everything it hands out (names, shapes, values, views) borrows
// from that state and lives as long as any copy.
//
// Opening reads only metadata, with pread into owned memory, and maps nothing. view() maps the file
// on first use: if another process then truncates the file, touching the view raises SIGBUS. read()
// and verify() never map.
//
// One file keeps its descriptor open. The shards of a set share at most 128 of them (fewer where
// the process may have few), which are opened again when they are needed: a shard that is then no
// longer the file that was opened is file_changed.
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
#include "flatbed/export.hpp"
#include "flatbed/file_info.hpp"
#include "flatbed/result.hpp"
#include "flatbed/seal_state.hpp"
#include "flatbed/tensor.hpp"
#include "flatbed/value.hpp"

namespace flatbed {

// Whether read() checks the digests of the chunks it touches, where there are any.
enum class Verify : std::uint8_t { yes, no };

struct OpenOptions {
  CheckSeal check_seal = CheckSeal::if_sealed;
  // Sharded sets: shards may be symbolic links (the Hub's cache consists of them).
  bool follow_links = true;
};

// Which tensors of a checkpoint to keep, and where its tree begins.
struct Selection {
  std::string path = {};  // subtree by dotted path; its prefix leaves the names; "" is everything
  std::vector<std::string> include = {};  // globs (* ? [...]) over tensor names; empty: all
  std::vector<std::string> exclude = {};  // globs; wins over include
  // Of a whole torch module at `path` (torch_module.hpp) take what its state_dict() returns; every
  // other value is taken as it is.
  bool state_dict = false;
};

class FLATBED_EXPORT Checkpoint {
 public:
  // Opens `path`. Errors: what the file is (20-29), what is wrong with it (30-169), the system's
  // (1-9).
  [[nodiscard]] static Result<Checkpoint> open(const std::filesystem::path& path,
                                               const OpenOptions& options = {});
  // Opens the file that `source` has the bytes of, and shares its ownership; no sidecar belongs to
  // it. Errors as above, each of the source's own with its label; invalid_argument (null);
  // unsupported_format (an index, whose files a source does not have: see open_shards()).
  [[nodiscard]] static Result<Checkpoint> open(std::shared_ptr<const ByteSource> source,
                                               const OpenOptions& options = {});
  // Opens the regular file behind `descriptor`, which stays the caller's and may be closed
  // afterwards. `label` stands for a path in messages and in files().
  [[nodiscard]] static Result<Checkpoint> open_descriptor(int descriptor, std::string label,
                                                          const OpenOptions& options = {});
  // Opens the file that lies in `bytes`, which the checkpoint borrows: they must stay as they are
  // until its last copy is gone. view() serves them in place.
  [[nodiscard]] static Result<Checkpoint> open_memory(std::span<const std::byte> bytes,
                                                      std::string label,
                                                      const OpenOptions& options = {});
  // Opens files that are the shards of one set without an index, in the order given. Tree and
  // metadata are those of the first one. Errors: those of open(), naming the shard; name_collision
  // where two shards have one name, naming both; invalid_argument (no shards).
  [[nodiscard]] static Result<Checkpoint> open_shards(
      const std::vector<std::filesystem::path>& paths, const OpenOptions& options = {});
  [[nodiscard]] static Result<Checkpoint> open_shards(
      const std::vector<std::shared_ptr<const ByteSource>>& sources,
      const OpenOptions& options = {});

  // What borrows is deleted for temporaries, which would leave it dangling.
  [[nodiscard]] std::span<const TensorInfo> tensors() const&;
  std::span<const TensorInfo> tensors() const&& = delete;
  // The tensor of this name or alias; nullptr when there is none. Constant time.
  [[nodiscard]] const TensorInfo* find(std::string_view name_or_alias) const&;
  const TensorInfo* find(std::string_view) const&& = delete;
  // find(), as an error that names the closest the caller could have meant.
  [[nodiscard]] Result<TensorInfo> tensor(std::string_view name_or_alias) const&;
  Result<TensorInfo> tensor(std::string_view) const&& = delete;

  [[nodiscard]] std::span<const Alias> aliases() const&;
  std::span<const Alias> aliases() const&& = delete;
  // The one file, or every shard: in byte order of the names in an index, else in the order given.
  [[nodiscard]] std::span<const FileInfo> files() const&;
  std::span<const FileInfo> files() const&& = delete;
  [[nodiscard]] Layout layout() const noexcept;
  [[nodiscard]] SealState seal() const noexcept;  // of a set: sealed only if every shard is
  // Metadata pairs of the (first) file in file order, flatbed's own included.
  [[nodiscard]] std::span<const std::pair<std::string_view, std::string_view>> metadata() const&;
  std::span<const std::pair<std::string_view, std::string_view>> metadata() const&& = delete;
  // Facts a user should see: unlisted tensors, an ignored sidecar, dropped hooks. One sentence
  // each.
  [[nodiscard]] std::span<const std::string> notes() const&;
  std::span<const std::string> notes() const&& = delete;

  // The structure around the tensors; tensor nodes count into tensors(). A file without one gives a
  // dict of names and aliases. Errors (tree_*) concern the tree alone: the tensors stay readable.
  // Decoded on the first call.
  [[nodiscard]] Result<Value> tree() const&;
  Result<Value> tree() const&& = delete;
  [[nodiscard]] bool has_tree() const noexcept;  // false: the file records no structure

  // The bytes in place (Stored::plain and held). The first view maps the file. Errors: not_viewable
  // (other tensors, and sources that have neither memory nor a descriptor), those of mapping.
  [[nodiscard]] Result<TensorView> view(const TensorInfo& tensor) const&;
  Result<TensorView> view(const TensorInfo&) const&& = delete;

  // Bytes [offset, offset + out.size()) of the tensor's contiguous little-endian contents, however
  // they are stored. With Verify::yes every chunk touched is checked against its digest; a mismatch
  // is chunk_corrupt or chunk_rewritten and leaves `out` unspecified.
  [[nodiscard]] Result<void> read(const TensorInfo& tensor, std::uint64_t offset,
                                  std::span<std::byte> out, Verify verify = Verify::yes) const;

  // The same files under a selection. With globs the result is a flat state dict: a structure with
  // holes would be neither the old one nor a new one.
  [[nodiscard]] Result<Checkpoint> select(const Selection& selection) const;

 private:
  friend struct CheckpointAccess;
  struct FLATBED_HIDDEN State;
  explicit Checkpoint(std::shared_ptr<const State> state) : state_(std::move(state)) {}
  std::shared_ptr<const State> state_;
};

}  // namespace flatbed
