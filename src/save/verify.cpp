#include "flatbed/verify.hpp"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <set>
#include <utility>

#include "base/str_cat.hpp"
#include "checkpoint/checkpoint_access.hpp"
#include "io/digest.hpp"
#include "io/far_source.hpp"
#include "io/leased_pool.hpp"
#include "io/reread.hpp"
#include "save/pieces.hpp"
#include "save/record_sums.hpp"

namespace flatbed {

namespace {

constexpr std::size_t kMaxDamagedRanges = 10'000;
constexpr std::size_t kMostPieceNbytes = 8 << 20;
constexpr unsigned kNetworkThreads = 4;
constexpr std::size_t kLeastLeased = safetensors::kChunkBytes;  // worth some calls of the kernel

class Verifier {
 public:
  explicit Verifier(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {
    for (const TensorInfo& tensor : checkpoint.tensors()) add(tensor);
    damaged_.resize(chunks_);
  }

  Result<VerifyReport> run(const VerifyOptions& options);

 private:
  // Bytes in a file that have digests.
  struct Sealed {
    TensorInfo info;
    std::uint32_t tensor = 0;  // of the checkpoint, which these bytes are or which is made of them
    std::uint64_t first_chunk = 0;  // an index into damaged_
  };

  void add(const TensorInfo& tensor);
  void add_sealed(const TensorInfo& info, std::uint32_t tensor);
  [[nodiscard]] std::vector<Run> collect_runs() const;
  void collect_records();
  [[nodiscard]] PieceReading choose_reading(const VerifyOptions& options) const;
  Result<void> check_piece(const PieceQueue& queue, const Piece& piece,
                           std::span<std::byte> buffer);
  Result<void> check_pages(const PieceQueue& queue, const Piece& piece,
                           const LeasedPool::Pages& pages);
  [[nodiscard]] bool matches(const Run& run, std::uint64_t chunk,
                             std::span<const std::byte> bytes) const;
  void note(const Run& run, std::uint64_t chunk, bool matches);
  void list_damage(VerifyReport& report) const;
  [[nodiscard]] const ByteSource& file(std::size_t index) const {
    return CheckpointAccess::source(checkpoint_, static_cast<std::uint32_t>(index));
  }

  const Checkpoint& checkpoint_;
  std::vector<Sealed> sealed_;
  // Stored tensors that others are computed of, by file and number.
  std::set<std::pair<const Container*, std::uint32_t>> seen_;
  std::uint64_t chunks_ = 0;
  std::vector<std::uint8_t> damaged_;   // for each chunk 0 or 1; each is written by one thread
  RecordSums sums_;                     // of all records of zips that state sums
  std::vector<std::uint32_t> records_;  // their numbers in sums_: 0, 1, 2 ...
  CrcReport crc_;
  LeasedPool leased_;
  std::atomic<std::uint64_t> rereads_ = 0;
};

// Over a network, fewer and larger reads, more of them at once: 32 MiB in all.
PieceReading Verifier::choose_reading(const VerifyOptions& options) const {
  PieceReading reading{options.threads, kPieceBytes};
  for (std::size_t i = 0; i < checkpoint_.files().size(); ++i) {
    if (!is_far(file(i))) continue;
    const std::size_t preferred = file(i).preferred_read_nbytes();
    reading.piece_nbytes = std::max(reading.piece_nbytes, std::min(preferred, kMostPieceNbytes));
    reading.threads = std::max(reading.threads, kNetworkThreads);
  }
  reading.piece_nbytes -= reading.piece_nbytes % safetensors::kChunkBytes;
  if (reading.piece_nbytes > kPieceBytes)
    reading.threads = std::min(reading.threads, kNetworkThreads);
  return reading;
}

Result<VerifyReport> Verifier::run(const VerifyOptions& options) {
  const PieceReading reading = choose_reading(options);
  PieceQueue queue(collect_runs(), reading.piece_nbytes);
  collect_records();
  const std::uint64_t nbytes = queue.nbytes() + nbytes_of(sums_, records_);
  PieceRunner runner({options.progress, options.cancel, nbytes});
  FLATBED_TRY(
      runner.run(queue, reading.threads, [&](const Piece& piece, std::span<std::byte> buffer) {
        return check_piece(queue, piece, buffer);
      }));
  FLATBED_ASSIGN(const std::uint64_t rereads, read_records(sums_, records_, runner, reading));
  rereads_ += rereads;
  // A change by another program meanwhile is not damage.
  for (std::size_t i = 0; i < checkpoint_.files().size(); ++i) {
    FLATBED_TRY(file(i).check_unchanged());
  }
  VerifyReport report;
  report.bytes_checked = nbytes;
  report.chunks_checked = chunks_;
  report.chunks_reread = rereads_;
  list_damage(report);
  sums_.check(crc_);
  report.crc = std::move(crc_);
  return report;
}

void Verifier::add(const TensorInfo& tensor) {
  if (tensor.stored != Stored::computed) return add_sealed(tensor, tensor.index);
  // What several tensors are made of is checked once, as a part of the first of them.
  for (const SourceTensor& stored : CheckpointAccess::sources(checkpoint_, tensor)) {
    if (seen_.emplace(&stored.place.container, stored.place.number).second)
      add_sealed(stored.info, tensor.index);
  }
}

void Verifier::add_sealed(const TensorInfo& info, std::uint32_t tensor) {
  if (info.digests.empty()) return;
  sealed_.push_back({info, tensor, chunks_});
  chunks_ += info.digests.size();
}

std::vector<Run> Verifier::collect_runs() const {
  std::vector<Run> runs;
  for (std::uint32_t i = 0; i < sealed_.size(); ++i) {
    const TensorInfo& info = sealed_[i].info;
    runs.push_back({i, info.where.file, info.where.offset, info.nbytes});
  }
  std::ranges::sort(runs, {}, [](const Run& run) { return std::pair(run.file, run.offset); });
  return runs;
}

void Verifier::collect_records() {
  for (std::uint32_t i = 0; i < checkpoint_.files().size(); ++i) {
    const Container& container = CheckpointAccess::container(checkpoint_, i);
    const ContainerRecords records = container.records();
    if (records.list.empty() && checkpoint_.files()[i].seal == SealState::unsealed)
      ++crc_.unchecked_files;
    if (!records.list.empty() && !records.state_crcs) {
      crc_.without.push_back(checkpoint_.files()[i].path);
      continue;
    }
    for (const ContainerRecord& record : records.list)
      records_.push_back(sums_.add(container.source(), record));
  }
}

Result<void> Verifier::check_piece(const PieceQueue& queue, const Piece& piece,
                                   std::span<std::byte> buffer) {
  const ByteSource& source = file(piece.file);
  if (piece.nbytes >= kLeastLeased) {
    const FileRange range{piece.offset, piece.offset + piece.nbytes};
    if (const auto pages = leased_.pages(source, range)) return check_pages(queue, piece, *pages);
  }
  FLATBED_TRY(source.read_at(piece.offset, buffer.first(piece.nbytes)));
  std::uint64_t rereads = 0;
  const auto check = [&](const Run& run, std::uint64_t chunk,
                         std::span<std::byte> bytes) -> Result<void> {
    const std::uint64_t offset = run.offset + chunk * safetensors::kChunkBytes;
    const auto matches = [&](std::span<const std::byte> read) {
      return this->matches(run, chunk, read);
    };
    FLATBED_ASSIGN(const bool same, matches_or_reread({source, offset, bytes}, rereads, matches));
    note(run, chunk, same);
    return {};
  };
  Result<void> checked = for_each_chunk(queue, piece, buffer, check);
  rereads_ += rereads;
  return checked;
}

// The same where the page cache has it.
Result<void> Verifier::check_pages(const PieceQueue& queue, const Piece& piece,
                                   const LeasedPool::Pages& pages) {
  const auto check = [&](const Run& run, std::uint64_t chunk,
                         std::span<const std::byte> bytes) -> Result<void> {
    note(run, chunk, matches(run, chunk, bytes));
    return {};
  };
  return for_each_chunk(queue, piece, pages.bytes({piece.offset, piece.offset + piece.nbytes}),
                        check);
}

bool Verifier::matches(const Run& run, std::uint64_t chunk,
                       std::span<const std::byte> bytes) const {
  return hex16(xxh3(bytes)) == sealed_[run.tensor].info.digests.hex(chunk);
}

void Verifier::note(const Run& run, std::uint64_t chunk, bool matches) {
  if (!matches) damaged_[sealed_[run.tensor].first_chunk + chunk] = 1;
}

// Joins neighbouring chunks of one tensor.
void Verifier::list_damage(VerifyReport& report) const {
  for (const Sealed& sealed : sealed_) {
    const TensorInfo& tensor = sealed.info;
    bool joins = false;
    for (std::uint64_t chunk = 0; chunk < tensor.digests.size(); ++chunk) {
      const bool damaged = damaged_[sealed.first_chunk + chunk] != 0;
      const std::uint64_t begin = chunk * safetensors::kChunkBytes;
      const std::uint64_t end = std::min(begin + safetensors::kChunkBytes, tensor.nbytes);
      if (damaged && joins) report.damaged.back().end = end;
      if (damaged && !joins) {
        if (report.damaged.size() == kMaxDamagedRanges) {
          report.damaged_complete = false;
          return;
        }
        report.damaged.push_back({tensor.where.file, sealed.tensor, begin, end});
      }
      joins = damaged;
    }
  }
}

}  // namespace

Result<VerifyReport> verify(const Checkpoint& checkpoint, const VerifyOptions& options) {
  FLATBED_ASSIGN(VerifyReport report, Verifier(checkpoint).run(options));
  // Damage comes first, because it is named by its place.
  const std::optional<Error> missing = CheckpointAccess::missing_tensor(checkpoint);
  if (missing && report.damaged.empty() && report.crc.mismatched == 0) return *missing;
  return report;
}

}  // namespace flatbed
