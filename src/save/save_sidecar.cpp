// save_sidecar(): the seal of a file that must not change, in a file next to it (spec C1):
//   {"flatbed":"<header>/1/<content>","flatbed.digests":"<16 digits per chunk, in name order>"}
#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "base/bytes.hpp"
#include "base/str_cat.hpp"
#include "checkpoint/checkpoint_access.hpp"
#include "flatbed/save.hpp"
#include "io/digest.hpp"
#include "save/pieces.hpp"
#include "save/save_source.hpp"
#include "save/write_file.hpp"

namespace flatbed {

namespace {

using safetensors::MetadataPair;
using safetensors::SealTensor;

// The one safetensors file at `path`, which must not have a seal of its own.
Result<Checkpoint> open_unsealed(const std::filesystem::path& path) {
  FLATBED_ASSIGN(Checkpoint checkpoint, Checkpoint::open(path, {.check_seal = CheckSeal::off}));
  const std::string place = quoted(path.native());
  if (checkpoint.layout() != Layout::safetensors || checkpoint.files()[0].path != path) {
    return make_error(ErrorCode::invalid_argument, place,
                      ": --sidecar needs a single .safetensors file");
  }
  for (const auto& [key, value] : checkpoint.metadata()) {
    if (safetensors::is_seal_key(key)) {
      return make_error(ErrorCode::invalid_argument, place, ": has the key ", quoted(key),
                        ", and readers prefer a seal inside a file to a sidecar");
    }
  }
  return checkpoint;
}

// The digests of all chunks, as the value of flatbed.digests.
Result<std::string> digest_data(const Checkpoint& checkpoint, const safetensors::DigestSlots& slots,
                                const SaveOptions& options) {
  std::vector<Run> runs;
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    runs.push_back({tensor.index, 0, tensor.where.offset, tensor.nbytes});
  }
  std::ranges::sort(runs, {}, &Run::offset);
  PieceQueue queue(std::move(runs), kPieceBytes);
  PieceRunner runner({options.progress, options.cancel, queue.nbytes()});

  std::string digests(slots.size, '0');
  const ByteSource& file = CheckpointAccess::source(checkpoint, 0);
  const auto hash_piece = [&](const Piece& piece, std::span<std::byte> buffer) -> Result<void> {
    FLATBED_TRY(file.read_at(piece.offset, buffer.first(piece.nbytes)));
    return for_each_chunk(
        queue, piece, buffer,
        [&](const Run& run, std::uint64_t chunk, std::span<std::byte> bytes) -> Result<void> {
          const std::string digits = hex16(xxh3(bytes));
          const std::uint64_t at = slots.begin[run.tensor] + chunk * digits.size();
          std::memcpy(digests.data() + at, digits.data(), digits.size());
          return {};
        });
  };
  FLATBED_TRY(runner.run(queue, options.threads, hash_piece));
  return digests;
}

// The text of the sidecar, and in `content` its content digest.
Result<std::string> make_sidecar(const Checkpoint& checkpoint, const SaveOptions& options,
                                 std::string& content) {
  std::vector<SealTensor> tensors;
  tensors.reserve(checkpoint.tensors().size());
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    tensors.push_back({tensor.name, tensor.dtype, tensor.shape, tensor.nbytes});
  }
  const std::vector<std::uint32_t> order = name_order(tensors);
  const safetensors::DigestSlots slots = digest_slots(tensors, order);
  FLATBED_ASSIGN(const std::string digests, digest_data(checkpoint, slots, options));

  const MetadataPair pair{safetensors::kDigestsKey, digests};
  content = hex16(content_digest(tensors, order, {&pair, 1}));
  const std::span<const std::byte> header = CheckpointAccess::container(checkpoint, 0).raw_header();
  std::string text = str_cat("{\"flatbed\":\"", hex16(xxh3(header)), "/1/", content,
                             "\",\"flatbed.digests\":\"", digests, "\"}");
  if (text.size() > safetensors::kMaxSidecarBytes) {
    return make_error(ErrorCode::limit_exceeded, "the sidecar is too large: found ", text.size(),
                      " bytes, the limit is ", safetensors::kMaxSidecarBytes);
  }
  return text;
}

}  // namespace

Result<SaveReport> save_sidecar(const std::filesystem::path& path, const SaveOptions& options) {
  FLATBED_ASSIGN(const Checkpoint checkpoint, open_unsealed(path));
  SaveReport report;
  FLATBED_ASSIGN(const std::string text, make_sidecar(checkpoint, options, report.content));
  std::filesystem::path sidecar = path;
  sidecar += safetensors::kSidecarSuffix;
  report.nbytes = text.size();
  const auto write = [&](AtomicFile& file) -> Result<void> {
    FLATBED_TRY(file.write_at(0, as_bytes(text)));
    return CheckpointAccess::source(checkpoint, 0).check_unchanged();
  };
  FLATBED_ASSIGN(const std::optional<FilePermissions> permissions,
                 permissions_of(CheckpointAccess::source(checkpoint, 0)));
  FLATBED_TRY(write_file({sidecar, permissions}, options, report, write));
  return report;
}

}  // namespace flatbed
