#include "save/record_sums.hpp"

#include <algorithm>
#include <atomic>
#include <memory>
#include <optional>
#include <utility>

#include "archive/crc32.hpp"
#include "archive/inflate.hpp"
#include "base/str_cat.hpp"
#include "io/file_error.hpp"
#include "io/large_allocator.hpp"
#include "io/reread.hpp"

namespace flatbed {

namespace {

using safetensors::chunk_count;
using safetensors::kChunkBytes;

constexpr std::size_t kMaxMismatches = 10'000;
constexpr std::size_t kMostReread = 8 << 20;

Result<pth::InflateReader> open_deflated(const ByteSource& source, const ContainerRecord& entry) {
  return pth::InflateReader::open(source, {entry.data_offset, entry.stored_nbytes, entry.nbytes});
}

RereadAhead ahead(const RecordSums& sums, std::uint32_t number, const std::atomic<bool>* cancel) {
  const ContainerRecord& entry = sums.entry(number);
  return {reread_nbytes(sums.source(number)), entry.data_offset + entry.stored_nbytes, cancel};
}

// Reads stored records, from any thread, or deflated ones in order.
class RecordReader {
 public:
  RecordReader(RecordSums& sums, const std::atomic<bool>* cancel) : sums_(sums), cancel_(cancel) {}

  Result<void> read_stored(const PieceQueue& queue, const Piece& piece,
                           std::span<std::byte> buffer) {
    const ByteSource& file = sums_.source(queue.run(piece.run).tensor);
    FLATBED_TRY(file.read_at(piece.offset, buffer.first(piece.nbytes)));
    return sum(queue, piece, buffer);
  }

  Result<void> inflate(const PieceQueue& queue, const Piece& piece, std::span<std::byte> buffer) {
    FLATBED_TRY(for_each_part(queue, piece, buffer,
                              [&](const Run& run, std::uint64_t skip, std::span<std::byte> part) {
                                return named(run.tensor, inflate_part(run.tensor, skip, part));
                              }));
    return sum(queue, piece, buffer);
  }

  [[nodiscard]] std::uint64_t rereads() const noexcept { return rereads_; }

 private:
  Result<void> sum(const PieceQueue& queue, const Piece& piece, std::span<std::byte> buffer) {
    return for_each_chunk(
        queue, piece, buffer,
        [&](const Run& run, std::uint64_t chunk, std::span<const std::byte> bytes) -> Result<void> {
          sums_.put(run.tensor, chunk, pth::crc32_of(bytes));
          return {};
        });
  }

  // What does not inflate is read again from the record's beginning.
  Result<void> inflate_part(std::uint32_t number, std::uint64_t skip, std::span<std::byte> part) {
    Result<void> done = read_inflated(number, sums_.source(number), skip, part);
    for (unsigned left = sums_.source(number).max_rereads();
         !done && done.error().code == ErrorCode::zip_deflate_malformed && left > 0; --left) {
      rereads_ += chunk_count(part.size());
      inflater_.reset();
      again_ = std::make_unique<RereadSource>(sums_.source(number), ahead(sums_, number, cancel_));
      done = read_inflated(number, *again_, skip, part);
    }
    return done;
  }

  Result<void> read_inflated(std::uint32_t number, const ByteSource& source, std::uint64_t skip,
                             std::span<std::byte> part) {
    if (!inflater_ || inflating_ != number) {
      FLATBED_ASSIGN(inflater_, open_deflated(source, sums_.entry(number)));
      inflating_ = number;
    }
    return inflater_->read(skip, part);
  }

  Result<void> named(std::uint32_t number, Result<void> done) const {
    if (done) return done;
    return in_file(sums_.source(number).label(),
                   str_cat("zip entry ", quoted(sums_.entry(number).name)),
                   std::move(done).error());
  }

  RecordSums& sums_;
  const std::atomic<bool>* cancel_;
  std::optional<pth::InflateReader> inflater_;
  std::uint32_t inflating_ = 0;
  std::unique_ptr<RereadSource> again_;  // that the inflater may read
  std::uint64_t rereads_ = 0;
};

// The places of the records. Deflated ones follow each other as if they had been inflated.
struct Runs {
  std::vector<Run> stored;
  std::vector<Run> deflated;
};

Runs collect_runs(const RecordSums& sums, std::span<const std::uint32_t> numbers) {
  Runs runs;
  std::vector<const ByteSource*> files;
  for (const std::uint32_t number : numbers) files.push_back(&sums.source(number));
  std::ranges::sort(files);
  files.erase(std::unique(files.begin(), files.end()), files.end());
  std::uint64_t inflated = 0;
  for (const std::uint32_t number : numbers) {
    const ContainerRecord& entry = sums.entry(number);
    if (entry.deflated) {
      runs.deflated.push_back({number, 0, inflated, entry.nbytes});
      inflated += entry.nbytes;
    } else {
      const auto file = std::ranges::lower_bound(files, &sums.source(number)) - files.begin();
      runs.stored.push_back(
          {number, static_cast<std::uint32_t>(file), entry.data_offset, entry.nbytes});
    }
  }
  std::ranges::sort(runs.stored, {},
                    [](const Run& run) { return std::pair(run.file, run.offset); });
  return runs;
}

// The record once more, in pieces that fill the buffer. False: it does not inflate.
Result<bool> reread_record(RecordSums& sums, std::uint32_t number, PieceRunner& runner,
                           std::span<std::byte> buffer) {
  const ContainerRecord& entry = sums.entry(number);
  const ByteSource& source = sums.source(number);
  const RereadSource in_small_reads(source, ahead(sums, number, runner.cancel()));
  std::optional<pth::InflateReader> inflater;
  if (entry.deflated) {
    FLATBED_ASSIGN(inflater, open_deflated(in_small_reads, entry));
  }
  for (std::uint64_t at = 0; at < entry.nbytes; at += buffer.size()) {
    FLATBED_TRY(runner.check());
    const std::span<std::byte> bytes = buffer.first(
        static_cast<std::size_t>(std::min<std::uint64_t>(buffer.size(), entry.nbytes - at)));
    const Result<void> read =
        inflater ? inflater->read(at, bytes) : source.reread_at(entry.data_offset + at, bytes);
    if (!read && read.error().code == ErrorCode::zip_deflate_malformed) return false;
    FLATBED_TRY(read);
    for (std::size_t skip = 0; skip < bytes.size(); skip += kChunkBytes) {
      const std::size_t nbytes = std::min<std::size_t>(kChunkBytes, bytes.size() - skip);
      sums.put(number, (at + skip) / kChunkBytes, pth::crc32_of(bytes.subspan(skip, nbytes)));
    }
  }
  return true;
}

// Those that do not match their CRC. Returns the number of chunks.
Result<std::uint64_t> reread_records(RecordSums& sums, std::span<const std::uint32_t> numbers,
                                     PieceRunner& runner) {
  std::uint64_t rereads = 0;
  for (const std::uint32_t number : numbers) {
    const ByteSource& source = sums.source(number);
    if (source.max_rereads() == 0 || sums.matches(number)) continue;
    const std::size_t nbytes = reread_nbytes(source);
    const LargeBlock buffer = try_allocate_large(nbytes);
    if (!buffer)
      return make_error(ErrorCode::resource_exhausted, "out of memory for ", nbytes, " bytes");
    for (unsigned left = source.max_rereads(); left > 0 && !sums.matches(number); --left) {
      FLATBED_TRY(reread_record(sums, number, runner, {buffer.get(), nbytes}));
      rereads += chunk_count(sums.entry(number).nbytes);
    }
  }
  return rereads;
}

}  // namespace

std::uint32_t ChunkSums::add(std::uint64_t nbytes) {
  first_.push_back(sums_.size());
  nbytes_.push_back(nbytes);
  sums_.resize(sums_.size() + nbytes / kChunkBytes + (nbytes % kChunkBytes == 0 ? 0 : 1));
  return static_cast<std::uint32_t>(nbytes_.size() - 1);
}

std::uint32_t ChunkSums::of(std::uint32_t run) const noexcept {
  std::uint32_t sum = 0;
  for (std::uint64_t at = 0; at < nbytes_[run]; at += kChunkBytes) {
    const std::uint32_t next = sums_[first_[run] + at / kChunkBytes];
    sum = pth::crc32_joined(sum, next, std::min<std::uint64_t>(kChunkBytes, nbytes_[run] - at));
  }
  return sum;
}

std::uint32_t RecordSums::add(const ByteSource& source, const ContainerRecord& record) {
  records_.push_back({&source, record});
  return sums_.add(record.nbytes);
}

void RecordSums::check(CrcReport& report) const {
  std::vector<std::uint32_t> differ;
  std::uint64_t unstated = 0;
  for (std::uint32_t number = 0; number < records_.size(); ++number) {
    if (sums_.of(number) == entry(number).crc) continue;
    if (entry(number).storage && entry(number).crc == 0) {
      ++unstated;
    } else {
      differ.push_back(number);
    }
  }
  report.checked += records_.size() - unstated;
  report.unstated += unstated;
  report.mismatched += differ.size();
  std::ranges::sort(differ, {}, [&](std::uint32_t number) {
    return std::pair(std::string_view(source(number).label()), entry(number).data_offset);
  });
  if (differ.size() > kMaxMismatches) differ.resize(kMaxMismatches);
  for (const std::uint32_t number : differ) {
    const ContainerRecord& record = entry(number);
    report.mismatches.push_back(
        {source(number).label(), std::string(record.name), record.crc, sums_.of(number)});
  }
}

std::uint64_t nbytes_of(const RecordSums& sums, std::span<const std::uint32_t> numbers) {
  std::uint64_t nbytes = 0;
  for (const std::uint32_t number : numbers) nbytes += sums.entry(number).nbytes;
  return nbytes;
}

std::size_t reread_nbytes(const ByteSource& source) noexcept {
  const std::size_t nbytes =
      std::clamp<std::size_t>(source.preferred_read_nbytes(), kChunkBytes, kMostReread);
  return nbytes - nbytes % kChunkBytes;
}

Result<std::uint64_t> read_records(RecordSums& sums, std::span<const std::uint32_t> numbers,
                                   PieceRunner& runner, const PieceReading& reading) {
  Runs runs = collect_runs(sums, numbers);
  RecordReader reader(sums, runner.cancel());
  PieceQueue stored(std::move(runs.stored), reading.piece_nbytes);
  FLATBED_TRY(
      runner.run(stored, reading.threads, [&](const Piece& piece, std::span<std::byte> buffer) {
        return reader.read_stored(stored, piece, buffer);
      }));
  // Uses one thread, because inflating continues where the previous piece ended.
  PieceQueue deflated(std::move(runs.deflated), kPieceBytes);
  FLATBED_TRY(runner.run(deflated, 1, [&](const Piece& piece, std::span<std::byte> buffer) {
    return reader.inflate(deflated, piece, buffer);
  }));
  if (!reading.mends) return reader.rereads();
  FLATBED_ASSIGN(const std::uint64_t rereads, reread_records(sums, numbers, runner));
  return reader.rereads() + rereads;
}

}  // namespace flatbed
