#include "save/save_data.hpp"

#include <numeric>
#include <utility>
#include <vector>

#include "archive/crc32.hpp"
#include "io/digest.hpp"
#include "save/pieces.hpp"
#include "save/save_source.hpp"
#include "save/source_records.hpp"

namespace flatbed {

namespace {

class DataWriter {
 public:
  DataWriter(const DataPart& part, const SaveOptions& options, safetensors::NewHeader& header,
             const WriteBytes& write)
      : part_(part), plan_(part.plan), options_(options), header_(header), write_(write) {}

  Result<void> run() {
    FLATBED_TRY(work_through(
        collect_runs(), options_,
        [this](const PieceQueue& queue, const Piece& piece, std::span<std::byte> buffer) {
          return write_piece(queue, piece, buffer);
        }));
    return check_sources(plan_);
  }

 private:
  [[nodiscard]] RunsByWay collect_runs() const;
  Result<void> write_piece(const PieceQueue& queue, const Piece& piece,
                           std::span<std::byte> buffer);
  Result<void> read(std::uint32_t item, std::uint64_t skip, std::span<std::byte> part);
  Result<void> hash(std::uint32_t item, std::uint64_t chunk, std::span<const std::byte> bytes);

  const DataPart& part_;
  const SavePlan& plan_;
  const SaveOptions& options_;
  safetensors::NewHeader& header_;
  const WriteBytes& write_;
};

RunsByWay DataWriter::collect_runs() const {
  RunsByWay runs;
  for (std::size_t i = 0; i < header_.file_order.size(); ++i) {
    const std::uint32_t item = header_.file_order[i];
    const std::uint64_t begin = header_.offsets[item];
    const bool last = i + 1 == header_.file_order.size();
    const std::uint64_t end =
        last ? header_.file_nbytes : header_.offsets[header_.file_order[i + 1]];
    runs[way_of(plan_.items[item])].push_back({item, 0, begin, end - begin});
  }
  return runs;
}

Result<void> DataWriter::write_piece(const PieceQueue& queue, const Piece& piece,
                                     std::span<std::byte> buffer) {
  FLATBED_TRY(for_each_part(queue, piece, buffer,
                            [&](const Run& run, std::uint64_t skip, std::span<std::byte> part) {
                              return read(run.tensor, skip, part);
                            }));
  FLATBED_TRY(
      for_each_chunk(queue, piece, buffer,
                     [&](const Run& run, std::uint64_t chunk, std::span<const std::byte> bytes) {
                       return hash(run.tensor, chunk, bytes);
                     }));
  return write_(piece.offset, buffer.first(piece.nbytes));
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

}  // namespace

WriteBytes write_to(AtomicFile& file) {
  return [&file](std::uint64_t offset, std::span<const std::byte> bytes) -> Result<void> {
    FLATBED_TRY(file.write_at(offset, bytes));
    file.start_writeback(offset, bytes.size());
    return {};
  };
}

Result<DataReport> write_data(const SavePlan& plan, const SaveOptions& options,
                              safetensors::NewHeader& header, const WriteBytes& write) {
  std::vector<std::uint32_t> numbers(plan.items.size());
  std::iota(numbers.begin(), numbers.end(), 0U);
  FLATBED_ASSIGN(SourceRecords records, SourceRecords::of(plan, header.file_order, options));
  CastSums casts;
  FLATBED_TRY(write_part({plan, numbers, records, casts}, options, header, write));
  FLATBED_ASSIGN(CrcReport crc, records.finish(options));
  return DataReport{std::move(crc), report_casts(plan, header.file_order, casts)};
}

Result<void> write_part(const DataPart& part, const SaveOptions& options,
                        safetensors::NewHeader& header, const WriteBytes& write) {
  return DataWriter(part, options, header, write).run();
}

}  // namespace flatbed
