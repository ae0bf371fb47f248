#include "flatbed/save_torch.hpp"

#include <algorithm>
#include <utility>

#include "archive/crc32.hpp"
#include "base/bytes.hpp"
#include "base/str_cat.hpp"
#include "io/digest.hpp"
#include "save/planned_zip.hpp"
#include "save/save_source.hpp"
#include "save/source_records.hpp"
#include "save/write_file.hpp"

namespace flatbed {

namespace {

constexpr std::uint64_t kPageBytes = 4096;
constexpr std::uint32_t kHeader = 0x80000000;  // in Run::tensor: a local header

// Writes the records. Storages are read, summed and written piece by piece, many small ones at a
// time together with their headers. The CRC of a storage that fills several pieces is known only at
// the end, when it is written into the header.
class RecordWriter {
 public:
  RecordWriter(const SavePlan& plan, const pth::TorchPickle& pickle, const pth::ZipLayout& layout,
               const SaveOptions& options)
      : plan_(plan), pickle_(pickle), layout_(layout), options_(options) {}

  Result<DataReport> run(AtomicFile& file);

 private:
  [[nodiscard]] std::size_t entry_of(std::uint32_t key) const {
    return PlannedZip::kFirstData + key;
  }
  [[nodiscard]] const SaveItem& item_of(std::uint32_t key) const {
    return plan_.items[pickle_.storages[key]];
  }
  [[nodiscard]] RunsByWay collect_runs();
  Result<void> write_piece(const PieceQueue& queue, const Piece& piece,
                           std::span<std::byte> buffer);
  Result<void> read_part(std::uint32_t key, std::uint64_t skip, std::span<std::byte> part);
  Result<void> sum_chunk(std::uint32_t key, std::uint64_t chunk, std::span<const std::byte> bytes);
  void start_whole_pages(const Piece& piece) noexcept;
  void fill_headers(const PieceQueue& queue, const Piece& piece, std::span<std::byte> buffer);
  Result<void> write_small(std::size_t entry, std::string_view contents);
  Result<void> finish_headers();

  const SavePlan& plan_;
  const pth::TorchPickle& pickle_;
  const pth::ZipLayout& layout_;
  const SaveOptions& options_;
  AtomicFile* file_ = nullptr;  // that of run()
  SourceRecords records_;
  CastSums casts_;                        // by item
  ChunkSums sums_;                        // for each key
  std::vector<std::uint8_t> has_header_;  // for each key: its header was written with its CRC
  std::vector<std::uint32_t> crcs_;       // for each entry; those of small ones until the end
};

Result<DataReport> RecordWriter::run(AtomicFile& file) {
  file_ = &file;
  FLATBED_ASSIGN(records_, SourceRecords::of(plan_, pickle_.storages, options_));
  crcs_.resize(layout_.size());
  FLATBED_TRY(work_through(
      collect_runs(), options_,
      [this](const PieceQueue& queue, const Piece& piece, std::span<std::byte> buffer) {
        return write_piece(queue, piece, buffer);
      }));
  FLATBED_ASSIGN(CrcReport report, records_.finish(options_));
  FLATBED_TRY(check_sources(plan_));
  FLATBED_TRY(finish_headers());
  FLATBED_TRY(write_small(1, PlannedZip::kByteOrder));
  FLATBED_TRY(write_small(layout_.size() - 1, PlannedZip::kVersion));
  FLATBED_TRY(write_small(0, pickle_.bytes));
  // Written last, so that what a killed process leaves never looks like a whole file.
  FLATBED_TRY(file_->write_at(layout_.entries_nbytes(), as_bytes(layout_.directory(crcs_))));
  return DataReport{std::move(report), report_casts(plan_, pickle_.storages, casts_)};
}

RunsByWay RecordWriter::collect_runs() {
  RunsByWay runs;
  const auto count = static_cast<std::uint32_t>(pickle_.storages.size());
  for (std::uint32_t key = 0; key < count; ++key) {
    const std::size_t entry = entry_of(key);
    const std::uint64_t begin = layout_.header_offset(entry);
    const std::uint64_t data = layout_.data_offset(entry);
    const std::uint64_t nbytes = layout_.data_nbytes(entry);
    std::vector<Run>& of_way = runs[way_of(item_of(key))];
    of_way.push_back({key | kHeader, 0, begin, data - begin});
    of_way.push_back({key, 0, data, nbytes});
    sums_.add(nbytes);
  }
  has_header_.resize(count);
  return runs;
}

Result<void> RecordWriter::read_part(std::uint32_t key, std::uint64_t skip,
                                     std::span<std::byte> part) {
  if ((key & kHeader) != 0) return {};
  ReadTally tally;
  FLATBED_TRY(read_item(item_of(key), skip, part, {options_.verify, tally}));
  casts_.add(pickle_.storages[key], tally.casts);
  return {};
}

Result<void> RecordWriter::write_piece(const PieceQueue& queue, const Piece& piece,
                                       std::span<std::byte> buffer) {
  FLATBED_TRY(for_each_part(queue, piece, buffer,
                            [&](const Run& run, std::uint64_t skip, std::span<std::byte> part) {
                              return read_part(run.tensor, skip, part);
                            }));
  FLATBED_TRY(for_each_chunk(
      queue, piece, buffer,
      [&](const Run& run, std::uint64_t chunk, std::span<const std::byte> bytes) -> Result<void> {
        if ((run.tensor & kHeader) != 0) return {};
        return sum_chunk(run.tensor, chunk, bytes);
      }));
  fill_headers(queue, piece, buffer);
  FLATBED_TRY(file_->write_at(piece.offset, buffer.first(piece.nbytes)));
  start_whole_pages(piece);
  return {};
}

// Pages that the piece shares with its neighbours are left to commit(): a page on its way to the
// device blocks anyone who writes to it.
void RecordWriter::start_whole_pages(const Piece& piece) noexcept {
  const std::uint64_t begin = (piece.offset + kPageBytes - 1) / kPageBytes * kPageBytes;
  const std::uint64_t end = (piece.offset + piece.nbytes) / kPageBytes * kPageBytes;
  if (begin < end) file_->start_writeback(begin, end - begin);
}

Result<void> RecordWriter::sum_chunk(std::uint32_t key, std::uint64_t chunk,
                                     std::span<const std::byte> bytes) {
  const SaveItem& item = item_of(key);
  if (is_verified(item, options_)) FLATBED_TRY(check_item_chunk(item, chunk, xxh3(bytes)));
  const std::uint32_t sum = pth::crc32_of(bytes);
  sums_.put(key, chunk, sum);
  const std::uint32_t number = pickle_.storages[key];
  if (records_.wants(number)) records_.put(number, chunk, sum);
  return {};
}

// A header whose record ends in the same piece gets its CRC now; the others get 0.
void RecordWriter::fill_headers(const PieceQueue& queue, const Piece& piece,
                                std::span<std::byte> buffer) {
  const std::uint64_t end = piece.offset + piece.nbytes;
  static_cast<void>(for_each_part(
      queue, piece, buffer,
      [&](const Run& run, std::uint64_t, std::span<std::byte> part) -> Result<void> {
        if ((run.tensor & kHeader) == 0) return {};
        const std::uint32_t key = run.tensor & ~kHeader;
        const std::size_t entry = entry_of(key);
        has_header_[key] = layout_.data_offset(entry) + layout_.data_nbytes(entry) <= end ? 1 : 0;
        const std::string header =
            layout_.local_header(entry, has_header_[key] != 0 ? sums_.of(key) : 0);
        std::ranges::copy(as_bytes(header), part.begin());
        return {};
      }));
}

Result<void> RecordWriter::finish_headers() {
  for (std::uint32_t key = 0; key < pickle_.storages.size(); ++key) {
    const std::size_t entry = entry_of(key);
    crcs_[entry] = sums_.of(key);
    if (has_header_[key] != 0) continue;
    std::byte bytes[sizeof(std::uint32_t)];
    for (std::size_t i = 0; i < sizeof bytes; ++i)
      bytes[i] = static_cast<std::byte>(crcs_[entry] >> (8 * i));
    FLATBED_TRY(file_->write_at(layout_.header_offset(entry) + pth::kLocalCrcOffset, bytes));
  }
  return {};
}

Result<void> RecordWriter::write_small(std::size_t entry, std::string_view contents) {
  crcs_[entry] = pth::crc32_of(as_bytes(contents));
  const std::string header = layout_.local_header(entry, crcs_[entry]);
  FLATBED_TRY(file_->write_at(layout_.header_offset(entry), as_bytes(header)));
  return file_->write_at(layout_.data_offset(entry), as_bytes(contents));
}

Result<void> count_written(const SavePlan& plan, const std::vector<bool>& written,
                           SaveTorchReport& report) {
  for (std::size_t i = 0; i < written.size(); ++i) {
    if (!written[i]) continue;
    FLATBED_ASSIGN(const std::uint64_t nbytes, item_nbytes(plan.items[i]));
    report.tensors += 1;
    report.tensor_nbytes += nbytes;
  }
  return {};
}

// Tensors that the structure does not reach have no place in the file.
void note_unreached(const SavePlan& plan, SaveTorchReport& report) {
  std::vector<bool> reached(plan.items.size());
  const ValueTree& tree = plan.tree;
  if (tree.root().id() == kNoNode) return;
  for (NodeId id = 0; id < tree.size(); ++id) {
    if (const auto number = tree.value(id).tensor(); number && *number < reached.size())
      reached[*number] = true;
  }
  const auto left = static_cast<std::size_t>(std::ranges::count(reached, false));
  if (left == 0) return;
  const auto first = static_cast<std::size_t>(std::ranges::find(reached, false) - reached.begin());
  report.notes.push_back(str_cat("left out ", counted(left, "tensor"), " not in the structure: ",
                                 left == 1 ? "" : "first ", quoted(plan.items[first].name)));
}

}  // namespace

Result<SaveTorchReport> save_torch(const std::filesystem::path& path, const SavePlan& plan,
                                   const SaveTorchOptions& options) {
  std::vector<bool> written(plan.items.size());
  FLATBED_ASSIGN(const PlannedZip planned, plan_zip(plan, options, written));
  const pth::TorchPickle& pickle = planned.pickle;
  const pth::ZipLayout& layout = planned.layout;
  SaveTorchReport report;
  for (const std::uint32_t item : pickle.storages) written[item] = true;
  FLATBED_TRY(count_written(plan, written, report));
  report.notes = pickle.conversions;
  note_unreached(plan, report);
  report.file.nbytes = layout.file_nbytes();
  FLATBED_ASSIGN(const std::optional<FilePermissions> permissions, source_permissions(plan));
  const auto write = [&](AtomicFile& file) -> Result<void> {
    FLATBED_ASSIGN(DataReport found, RecordWriter(plan, pickle, layout, options.file).run(file));
    report.file.crc = std::move(found.crc);
    report.file.casts = std::move(found.casts);
    return {};
  };
  FLATBED_TRY(write_file({path, permissions}, options.file, report.file, write));
  return report;
}

}  // namespace flatbed
