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
#include "save/planned_sidecar.hpp"
#include "save/save_source.hpp"
#include "save/write_file.hpp"

namespace flatbed {

namespace {

// The digests of all chunks, as the value of flatbed.digests.
Result<std::string> digest_data(const PlannedSidecar& planned, const SaveOptions& options) {
  const Checkpoint& checkpoint = planned.checkpoint;
  std::vector<Run> runs;
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    runs.push_back({tensor.index, 0, tensor.where.offset, tensor.nbytes});
  }
  std::ranges::sort(runs, {}, &Run::offset);
  PieceQueue queue(std::move(runs), kPieceBytes);
  PieceRunner runner({options.progress, options.cancel, queue.nbytes()});

  std::string digests(planned.slots.size, '0');
  const ByteSource& file = CheckpointAccess::source(checkpoint, 0);
  const auto hash_piece = [&](const Piece& piece, std::span<std::byte> buffer) -> Result<void> {
    FLATBED_TRY(file.read_at(piece.offset, buffer.first(piece.nbytes)));
    return for_each_chunk(
        queue, piece, buffer,
        [&](const Run& run, std::uint64_t chunk, std::span<std::byte> bytes) -> Result<void> {
          const std::string digits = hex16(xxh3(bytes));
          const std::uint64_t at = planned.slots.begin[run.tensor] + chunk * digits.size();
          std::memcpy(digests.data() + at, digits.data(), digits.size());
          return {};
        });
  };
  FLATBED_TRY(runner.run(queue, options.threads, hash_piece));
  return digests;
}

}  // namespace

Result<SaveReport> save_sidecar(const std::filesystem::path& path, const SaveOptions& options) {
  FLATBED_ASSIGN(const PlannedSidecar planned, plan_sidecar(path));
  SaveReport report;
  report.nbytes = planned.nbytes();
  std::string text;
  if (!options.dry_run) {
    FLATBED_ASSIGN(const std::string digests, digest_data(planned, options));
    report.content = planned.content(digests);
    text = planned.text(report.content, digests);
  }
  const auto write = [&](AtomicFile& file) -> Result<void> {
    FLATBED_TRY(file.write_at(0, as_bytes(text)));
    return CheckpointAccess::source(planned.checkpoint, 0).check_unchanged();
  };
  FLATBED_ASSIGN(const std::optional<FilePermissions> permissions,
                 permissions_of(CheckpointAccess::source(planned.checkpoint, 0)));
  FLATBED_TRY(write_file({sidecar_path(path), permissions}, options, report, write));
  return report;
}

}  // namespace flatbed
