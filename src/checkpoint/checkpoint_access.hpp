// CheckpointAccess: what the rooms above may use of a Checkpoint besides its public members.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <vector>

#include "flatbed/checkpoint.hpp"
#include "io/container.hpp"

namespace flatbed {

// A tensor by its number in its file.
struct TensorPlace {
  const Container& container;
  std::uint32_t number = 0;  // in the container's numbering
};

// A tensor that lies in a file: what a tensor of a checkpoint is, or is computed of.
struct SourceTensor {
  TensorInfo info;  // of the checkpoint of files, so `index` is a number there; borrows from it
  TensorPlace place;
};

// What reads took, added up for reports.
struct ReadTally {
  std::uint64_t bytes_read = 0;  // of the files, or unpacked from them
  std::uint64_t bytes_verified = 0;
  std::uint64_t chunks_verified = 0;
  std::uint64_t chunks_reread = 0;  // because they, or the CRC of their record, did not match
  CastCounts casts;
};

// Checks the digests of what is read if `verify` says so, and adds to `tally`.
struct Reading {
  Verify verify = Verify::yes;
  ReadTally& tally;
  // Whether a record that is read whole is compared with its CRC where its bytes may have been
  // damaged on the way (ByteSource::max_rereads()) and no digest says so.
  bool check_records = false;
};

// The bytes of a tensor's contents from `offset` on, to fill `out`.
struct ReadRange {
  std::uint64_t offset = 0;
  std::span<std::byte> out;
};

// See shard_slice().
struct RankCut {
  std::size_t dim = 0;
  std::uint64_t rank = 0;
  std::uint64_t count = 1;
  auto operator<=>(const RankCut&) const = default;
};

// Elements [begin, end) of a dimension, and all elements of the others.
struct DimRange {
  std::size_t dim = 0;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

// Elements [begin, end) along a dimension of a tensor that is stored plainly in a file.
struct TensorPart {
  Checkpoint checkpoint;
  const TensorInfo* tensor = nullptr;  // of that checkpoint
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

struct CheckpointAccess {
  using State = Checkpoint::State;  // for this room: checkpoint_state.hpp

  // `file` is one of checkpoint.files().
  [[nodiscard]] static const Container& container(const Checkpoint& checkpoint, std::uint32_t file);
  [[nodiscard]] static const ByteSource& source(const Checkpoint& checkpoint, std::uint32_t file) {
    return container(checkpoint, file).source();
  }
  // The index of a set, also of a view of one; empty if there is none.
  [[nodiscard]] static const std::filesystem::path& index_file(const Checkpoint& checkpoint);
  // `tensor` is one of checkpoint.tensors().
  [[nodiscard]] static TensorPlace locate(const Checkpoint& checkpoint, const TensorInfo& tensor);
  // Checkpoint::read() of bytes of one of its tensors, with what it took added to a tally.
  [[nodiscard]] static Result<void> read(const Checkpoint& checkpoint, const TensorInfo& tensor,
                                         const ReadRange& range, const Reading& reading);
  // The same bytes of a tensor that is not computed, past every copy kept on the way
  // (ByteSource::reread_at()). They are compared with nothing.
  [[nodiscard]] static Result<void> reread(const Checkpoint& checkpoint, const TensorInfo& tensor,
                                           const ReadRange& range);
  // The tensor itself, or what it is computed of, in order.
  [[nodiscard]] static std::vector<SourceTensor> sources(const Checkpoint& checkpoint,
                                                         const TensorInfo& tensor);
  // What the range of a tensor is joined of along that dimension, in order. Empty if it is made in
  // another way, or of a tensor that is not stored plainly.
  [[nodiscard]] static std::vector<TensorPart> parts(const Checkpoint& checkpoint,
                                                     const TensorInfo& tensor,
                                                     const DimRange& range);
  // Whether the tensor is put together of strided runs, so that it is best read in large ranges.
  [[nodiscard]] static bool gathers(const Checkpoint& checkpoint, const TensorInfo& tensor);
  // The same tensors for one of `count` ranks, in the same order: of each one that is joined along
  // `dim`, the rank's part of every tensor that it is joined of, if all of these divide evenly and
  // into whole bytes. All others stay whole. Errors: limit_exceeded.
  [[nodiscard]] static Result<Checkpoint> rank_view(const Checkpoint& checkpoint,
                                                    const RankCut& cut);
  // Compares the digest of a chunk with the seal's. Errors: chunk_corrupt, chunk_rewritten.
  [[nodiscard]] static Result<void> check_chunk(const Checkpoint& checkpoint,
                                                const TensorInfo& tensor, std::uint64_t chunk,
                                                std::uint64_t digest);
  // Checkpoint::cast() of every tensor that can be cast; the others stay. check_cast() says why one
  // of them did. Errors: invalid_argument, size_overflow.
  [[nodiscard]] static Result<Checkpoint> cast_what_can_be(const Checkpoint& checkpoint, Dtype to);
  [[nodiscard]] static Result<void> check_cast(const Checkpoint& checkpoint,
                                               const TensorInfo& tensor, Dtype to);
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
