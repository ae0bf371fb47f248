#include "flatbed/verify.hpp"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "base/str_cat.hpp"
#include "checkpoint_state.hpp"
#include "io/digest.hpp"
#include "pieces.hpp"

namespace flatbed {

namespace {

constexpr std::size_t kMaxDamagedRanges = 10'000;

class Verifier {
 public:
  explicit Verifier(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {
    first_chunk_.reserve(checkpoint.tensors().size());
    for (const TensorInfo& tensor : checkpoint.tensors()) {
      first_chunk_.push_back(chunks_);
      chunks_ += tensor.digests.size();
    }
    damaged_.resize(chunks_);
  }

  Result<VerifyReport> run(const VerifyOptions& options);

 private:
  [[nodiscard]] std::vector<Run> collect_runs() const;
  Result<void> check_piece(const PieceQueue& queue, const Piece& piece,
                           std::span<std::byte> buffer);
  void list_damage(VerifyReport& report) const;
  [[nodiscard]] const File& file(std::size_t index) const {
    return CheckpointAccess::file(checkpoint_, static_cast<std::uint32_t>(index));
  }

  const Checkpoint& checkpoint_;
  std::vector<std::uint64_t> first_chunk_;  // per tensor, into damaged_
  std::uint64_t chunks_ = 0;
  std::vector<std::uint8_t> damaged_;  // per chunk 0 or 1; each is written by one thread
};

Result<VerifyReport> Verifier::run(const VerifyOptions& options) {
  PieceQueue queue(collect_runs(), kPieceBytes);
  PieceRunner runner({options.progress, options.cancel, queue.nbytes()});
  FLATBED_TRY(
      runner.run(queue, options.threads, [&](const Piece& piece, std::span<std::byte> buffer) {
        return check_piece(queue, piece, buffer);
      }));
  // What another program wrote meanwhile is no damage.
  for (std::size_t i = 0; i < checkpoint_.files().size(); ++i) {
    FLATBED_TRY(file(i).check_unchanged());
  }
  VerifyReport report;
  report.bytes_checked = queue.nbytes();
  report.chunks_checked = chunks_;
  list_damage(report);
  return report;
}

std::vector<Run> Verifier::collect_runs() const {
  std::vector<Run> runs;
  for (const TensorInfo& tensor : checkpoint_.tensors()) {
    if (tensor.digests.empty()) continue;
    runs.push_back({tensor.index, tensor.where.file, tensor.where.offset, tensor.nbytes});
  }
  std::ranges::sort(runs, {}, [](const Run& run) { return std::pair(run.file, run.offset); });
  return runs;
}

Result<void> Verifier::check_piece(const PieceQueue& queue, const Piece& piece,
                                   std::span<std::byte> buffer) {
  FLATBED_TRY(file(piece.file).read_at(piece.offset, buffer.first(piece.nbytes)));
  return for_each_chunk(
      queue, piece, buffer,
      [&](const Run& run, std::uint64_t chunk, std::span<std::byte> bytes) -> Result<void> {
        const bool same =
            hex16(xxh3(bytes)) == checkpoint_.tensors()[run.tensor].digests.hex(chunk);
        if (!same) damaged_[first_chunk_[run.tensor] + chunk] = 1;
        return {};
      });
}

// Joins neighbouring chunks of one tensor.
void Verifier::list_damage(VerifyReport& report) const {
  for (const TensorInfo& tensor : checkpoint_.tensors()) {
    bool joins = false;
    for (std::uint64_t chunk = 0; chunk < tensor.digests.size(); ++chunk) {
      const bool damaged = damaged_[first_chunk_[tensor.index] + chunk] != 0;
      const std::uint64_t begin = chunk * safetensors::kChunkBytes;
      const std::uint64_t end = std::min(begin + safetensors::kChunkBytes, tensor.nbytes);
      if (damaged && joins) report.damaged.back().end = end;
      if (damaged && !joins) {
        if (report.damaged.size() == kMaxDamagedRanges) {
          report.damaged_complete = false;
          return;
        }
        report.damaged.push_back({tensor.where.file, tensor.index, begin, end});
      }
      joins = damaged;
    }
  }
}

}  // namespace

Result<VerifyReport> verify(const Checkpoint& checkpoint, const VerifyOptions& options) {
  return Verifier(checkpoint).run(options);
}

}  // namespace flatbed
