#include "save/save_data.hpp"

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include "archive/crc32.hpp"
#include "base/str_cat.hpp"
#include "io/digest.hpp"
#include "save/pieces.hpp"
#include "save/record_mender.hpp"
#include "save/save_source.hpp"
#include "save/source_records.hpp"
#include "save/write_window.hpp"

namespace flatbed {

namespace {

class DataWriter {
 public:
  DataWriter(const DataPart& part, const SaveOptions& options, safetensors::NewHeader& header,
             const DataTarget& target)
      : part_(part),
        plan_(part.plan),
        options_(options),
        header_(header),
        target_(target),
        window_(header.bytes.size(), kSinkWindowBytes) {}

  Result<void> run() {
    FLATBED_TRY(target_.in_order ? write_in_order() : write_in_groups());
    FLATBED_TRY(mend_records());
    return check_sources(plan_);
  }

 private:
  Result<void> write_in_groups();
  Result<void> write_in_order();
  [[nodiscard]] std::vector<WayRuns> collect_runs() const;
  Result<void> write_in_turn(const PieceQueue& queue, const Piece& piece,
                             std::span<std::byte> buffer);
  Result<void> fill_piece(const PieceQueue& queue, const Piece& piece, std::span<std::byte> buffer);
  Result<void> read(std::uint32_t item, std::uint64_t skip, std::span<std::byte> part);
  Result<void> mend_records();
  Result<void> hash(std::uint32_t item, std::uint64_t chunk, std::span<const std::byte> bytes);

  const DataPart& part_;
  const SavePlan& plan_;
  const SaveOptions& options_;
  safetensors::NewHeader& header_;
  const DataTarget& target_;
  WriteWindow window_;
};

Result<void> DataWriter::write_in_groups() {
  RunsByWay runs;
  for (WayRuns& group : collect_runs()) {
    std::vector<Run>& of_way = runs[group.way];
    of_way.insert(of_way.end(), group.runs.begin(), group.runs.end());
  }
  return work_through(std::move(runs), options_,
                      [this](const PieceQueue& queue, const Piece& piece,
                             std::span<std::byte> buffer) -> Result<void> {
                        FLATBED_TRY(fill_piece(queue, piece, buffer));
                        return target_.write(piece.offset, buffer.first(piece.nbytes));
                      });
}

Result<void> DataWriter::write_in_order() {
  return work_in_order(
      collect_runs(), options_,
      [this](const PieceQueue& queue, const Piece& piece, std::span<std::byte> buffer) {
        return write_in_turn(queue, piece, buffer);
      });
}

// The places of the items from front to back. Neighbours that are read in one way share a group.
std::vector<WayRuns> DataWriter::collect_runs() const {
  std::vector<WayRuns> groups;
  for (std::size_t i = 0; i < header_.file_order.size(); ++i) {
    const std::uint32_t item = header_.file_order[i];
    const std::uint64_t begin = header_.offsets[item];
    const bool last = i + 1 == header_.file_order.size();
    const std::uint64_t end =
        last ? header_.file_nbytes : header_.offsets[header_.file_order[i + 1]];
    const std::size_t way = way_of(plan_.items[item]);
    if (groups.empty() || groups.back().way != way) groups.push_back({way, {}});
    groups.back().runs.push_back({item, 0, begin, end - begin});
  }
  return groups;
}

// A thread that fails will not write what it has taken, which others may be waiting for.
Result<void> DataWriter::write_in_turn(const PieceQueue& queue, const Piece& piece,
                                       std::span<std::byte> buffer) {
  Result<void> result = fill_piece(queue, piece, buffer);
  if (result && !window_.wait_for(piece.offset)) return {};  // the other thread has the error
  if (result) result = target_.write(piece.offset, buffer.first(piece.nbytes));
  if (result) {
    window_.advance(piece.offset, piece.nbytes);
  } else {
    window_.fail();
  }
  return result;
}

Result<void> DataWriter::fill_piece(const PieceQueue& queue, const Piece& piece,
                                    std::span<std::byte> buffer) {
  FLATBED_TRY(for_each_part(queue, piece, buffer,
                            [&](const Run& run, std::uint64_t skip, std::span<std::byte> part) {
                              return read(run.tensor, skip, part);
                            }));
  return for_each_chunk(queue, piece, buffer,
                        [&](const Run& run, std::uint64_t chunk, std::span<const std::byte> bytes) {
                          return hash(run.tensor, chunk, bytes);
                        });
}

Result<void> DataWriter::read(std::uint32_t item, std::uint64_t skip, std::span<std::byte> part) {
  ReadTally tally;
  FLATBED_TRY(
      read_item(plan_.items[item], skip, part, {options_.verify, tally, !options_.ignore_crc}));
  part_.rereads += tally.chunks_reread;
  part_.casts.add(part_.numbers[item], tally.casts);
  return {};
}

Result<void> DataWriter::hash(std::uint32_t item, std::uint64_t chunk,
                              std::span<const std::byte> bytes) {
  const std::uint32_t number = part_.numbers[item];
  if (part_.records.wants(number)) part_.records.put(number, chunk, pth::crc32_of(bytes));
  const bool sealed_source = is_verified(plan_.items[item], options_);
  if (!options_.seal && !sealed_source) return {};
  const std::uint64_t digest = xxh3(bytes);
  if (sealed_source) FLATBED_TRY(check_item_chunk(plan_.items[item], chunk, digest));
  if (options_.seal) put_digest(header_, item, chunk, digest);
  return {};
}

// Records of zips that do not match their CRC may have been damaged on the way.
Result<void> DataWriter::mend_records() {
  if (options_.ignore_crc) return {};
  std::vector<PlacedItem> places;
  for (const std::uint32_t item : header_.file_order) {
    FLATBED_ASSIGN(const std::uint64_t nbytes, item_nbytes(plan_.items[item]));
    const std::uint64_t offset = header_.offsets[item];
    places.push_back({&plan_.items[item], part_.numbers[item], offset, offset, nbytes});
  }
  const MendCalls calls{
      header_.bytes.size(), header_.file_nbytes - header_.bytes.size(),
      [this](std::size_t place, std::uint64_t chunk, std::span<const std::byte> bytes) {
        return hash(header_.file_order[place], chunk, bytes);
      },
      [](std::size_t) { return Result<void>(); },
      [](std::uint64_t, std::span<std::byte>) {}};  // the items follow each other
  RecordMender mender(places, part_.records, options_, target_, calls);
  FLATBED_ASSIGN(const std::uint64_t rereads, mender.run());
  part_.rereads += rereads;
  return {};
}

}  // namespace

DataTarget write_to(ByteSink& sink) {
  return {[&sink](std::uint64_t offset, std::span<const std::byte> bytes) {
            return sink.write_at(offset, bytes);
          },
          sink.in_order(), sink.rewrite_nbytes(),
          [&sink](std::uint64_t offset, std::span<const std::byte> bytes) {
            return sink.rewrite_at(offset, bytes);
          }};
}

Result<DataReport> write_data(const SavePlan& plan, const SaveOptions& options,
                              safetensors::NewHeader& header, const DataTarget& target) {
  std::vector<std::uint32_t> numbers(plan.items.size());
  std::iota(numbers.begin(), numbers.end(), 0U);
  FLATBED_ASSIGN(SourceRecords records, SourceRecords::of(plan, header.file_order, options));
  CastSums casts;
  std::atomic<std::uint64_t> rereads = 0;
  FLATBED_TRY(write_part({plan, numbers, records, casts, rereads}, options, header, target));
  FLATBED_ASSIGN(CrcReport crc, records.finish(options, rereads));
  return DataReport{std::move(crc), report_casts(plan, header.file_order, casts), rereads};
}

Result<void> write_part(const DataPart& part, const SaveOptions& options,
                        safetensors::NewHeader& header, const DataTarget& target) {
  return DataWriter(part, options, header, target).run();
}

}  // namespace flatbed
