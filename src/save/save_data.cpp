#include "save/save_data.hpp"

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include "archive/crc32.hpp"
#include "base/str_cat.hpp"
#include "io/digest.hpp"
#include "io/large_allocator.hpp"
#include "save/pieces.hpp"
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
    if (!target_.in_order) FLATBED_TRY(mend_records());
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
  Result<void> mend_item(std::uint32_t item, const RereadPlace& place);
  Result<void> mend_chunks(std::uint32_t item, std::uint64_t at, std::span<const std::byte> bytes);
  [[nodiscard]] Result<void> check_mending() const;
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
  FLATBED_TRY(read_item(plan_.items[item], skip, part, {options_.verify, tally}));
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
  for (const std::uint32_t item : header_.file_order) {
    const std::uint32_t number = part_.numbers[item];
    const RereadPlace place = reread_place(plan_.items[item]);
    if (place.source == nullptr || !part_.records.wants(number)) continue;
    for (unsigned left = place.source->max_rereads(); left > 0 && !part_.records.matches(number);
         --left)
      FLATBED_TRY(mend_item(item, place));
  }
  return {};
}

Result<void> DataWriter::mend_item(std::uint32_t item, const RereadPlace& place) {
  FLATBED_ASSIGN(const std::uint64_t size, item_nbytes(plan_.items[item]));
  const std::size_t most = reread_nbytes(*place.source);
  const LargeBlock buffer = try_allocate_large(most);
  if (!buffer)
    return make_error(ErrorCode::resource_exhausted, "out of memory for ", most, " bytes");
  for (std::uint64_t at = 0; at < size; at += most) {
    FLATBED_TRY(check_mending());
    const std::span<std::byte> bytes{
        buffer.get(), static_cast<std::size_t>(std::min<std::uint64_t>(most, size - at))};
    FLATBED_TRY(place.source->reread_at(place.offset + at, bytes));
    FLATBED_TRY(mend_chunks(item, at, bytes));
  }
  return {};
}

// Writes the chunks that arrive otherwise than the first time. `at` is where they are in the item.
Result<void> DataWriter::mend_chunks(std::uint32_t item, std::uint64_t at,
                                     std::span<const std::byte> bytes) {
  for (std::size_t skip = 0; skip < bytes.size(); skip += safetensors::kChunkBytes) {
    const std::uint64_t chunk = (at + skip) / safetensors::kChunkBytes;
    const std::span<const std::byte> read =
        bytes.subspan(skip, std::min<std::size_t>(safetensors::kChunkBytes, bytes.size() - skip));
    if (pth::crc32_of(read) == part_.records.of_chunk(part_.numbers[item], chunk)) continue;
    FLATBED_TRY(hash(item, chunk, read));
    FLATBED_TRY(target_.write(header_.offsets[item] + at + skip, read));
  }
  return {};
}

// All bytes have been written once, and are reported so again, so that the caller may end it.
Result<void> DataWriter::check_mending() const {
  const std::uint64_t nbytes = header_.file_nbytes - header_.bytes.size();
  if (options_.progress) FLATBED_TRY(options_.progress({nbytes, nbytes}));
  if (options_.cancel == nullptr || !*options_.cancel) return {};
  return make_error(ErrorCode::cancelled, "interrupted while a record was read again");
}

}  // namespace

DataTarget write_to(ByteSink& sink) {
  return {[&sink](std::uint64_t offset, std::span<const std::byte> bytes) {
            return sink.write_at(offset, bytes);
          },
          sink.in_order()};
}

Result<DataReport> write_data(const SavePlan& plan, const SaveOptions& options,
                              safetensors::NewHeader& header, const DataTarget& target) {
  std::vector<std::uint32_t> numbers(plan.items.size());
  std::iota(numbers.begin(), numbers.end(), 0U);
  FLATBED_ASSIGN(SourceRecords records, SourceRecords::of(plan, header.file_order, options));
  CastSums casts;
  FLATBED_TRY(write_part({plan, numbers, records, casts}, options, header, target));
  FLATBED_ASSIGN(CrcReport crc, records.finish(options));
  return DataReport{std::move(crc), report_casts(plan, header.file_order, casts)};
}

Result<void> write_part(const DataPart& part, const SaveOptions& options,
                        safetensors::NewHeader& header, const DataTarget& target) {
  return DataWriter(part, options, header, target).run();
}

}  // namespace flatbed
