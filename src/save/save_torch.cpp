#include "flatbed/save_torch.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <optional>
#include <utility>

#include "archive/crc32.hpp"
#include "base/bytes.hpp"
#include "base/str_cat.hpp"
#include "io/digest.hpp"
#include "save/planned_zip.hpp"
#include "save/record_mender.hpp"
#include "save/save_data.hpp"
#include "save/save_source.hpp"
#include "save/source_records.hpp"
#include "save/write_file.hpp"
#include "save/write_window.hpp"

namespace flatbed {

namespace {

constexpr std::uint64_t kPageBytes = 4096;
constexpr std::uint32_t kHeader = 0x80000000;  // in Run::tensor: a local header

// Writes the records. Storages are read, summed and written piece by piece, many small ones at a
// time together with their headers. The CRC of a storage that fills several pieces is known after
// the last of them, and is written into the header then.
//
//   in order    data.pkl, byteorder | header, storage, header, storage ... | version, directory
//   otherwise   the storages first, in the order that is fastest to read, the directory last
class RecordWriter {
 public:
  RecordWriter(const SavePlan& plan, const pth::TorchPickle& pickle, const pth::ZipLayout& layout,
               const SaveOptions& options)
      : plan_(plan), pickle_(pickle), layout_(layout), options_(options) {}

  Result<DataReport> run(const DataTarget& target);

 private:
  [[nodiscard]] std::size_t entry_of(std::uint32_t key) const {
    return PlannedZip::kFirstData + key;
  }
  [[nodiscard]] const SaveItem& item_of(std::uint32_t key) const {
    return plan_.items[pickle_.storages[key]];
  }
  [[nodiscard]] std::vector<WayRuns> collect_runs();
  Result<void> write_storages();
  Result<void> write_in_turn(const PieceQueue& queue, const Piece& piece,
                             std::span<std::byte> buffer);
  Result<void> write_piece(const PieceQueue& queue, const Piece& piece,
                           std::span<std::byte> buffer);
  Result<void> read_part(std::uint32_t key, std::uint64_t skip, std::span<std::byte> part);
  Result<void> sum_chunk(std::uint32_t key, std::uint64_t chunk, std::span<const std::byte> bytes);
  std::optional<std::uint32_t> fill_headers(const PieceQueue& queue, const Piece& piece,
                                            std::span<std::byte> buffer);
  Result<void> write_around_sum(const Piece& piece, std::span<const std::byte> bytes,
                                std::optional<std::uint32_t> key);
  [[nodiscard]] std::uint64_t end_of_sum(std::uint32_t key) const;
  Result<void> count_written(const PieceQueue& queue, const Piece& piece,
                             std::span<std::byte> buffer);
  Result<void> write_sum(std::uint32_t key);
  Result<void> replace_sum(std::uint32_t key);
  Result<void> mend_records();
  void fill_between(std::uint64_t offset, std::span<std::byte> out) const;
  Result<void> write_small(std::size_t entry, std::string_view contents);

  const SavePlan& plan_;
  const pth::TorchPickle& pickle_;
  const pth::ZipLayout& layout_;
  const SaveOptions& options_;
  const DataTarget* target_ = nullptr;  // that of run()
  SourceRecords records_;
  CastSums casts_;  // by item
  std::atomic<std::uint64_t> rereads_ = 0;
  ChunkSums sums_;  // for each key
  // For each key: bytes of the header and the storage that are not written yet, the sum aside.
  std::vector<std::atomic<std::uint64_t>> left_;
  std::vector<std::uint8_t> has_sum_;  // for each key: its header was written with its CRC
  std::vector<std::uint32_t> crcs_;    // for each entry
  std::optional<WriteWindow> window_;
};

Result<DataReport> RecordWriter::run(const DataTarget& target) {
  target_ = &target;
  FLATBED_ASSIGN(records_, SourceRecords::of(plan_, pickle_.storages, options_));
  crcs_.resize(layout_.size());
  if (!target.in_order) FLATBED_TRY(write_storages());
  FLATBED_TRY(write_small(0, pickle_.bytes));
  FLATBED_TRY(write_small(1, PlannedZip::kByteOrder));
  if (target.in_order) FLATBED_TRY(write_storages());
  FLATBED_TRY(mend_records());
  FLATBED_ASSIGN(CrcReport report, records_.finish(options_, rereads_));
  FLATBED_TRY(check_sources(plan_));
  FLATBED_TRY(write_small(layout_.size() - 1, PlannedZip::kVersion));
  // Written last, so that what a killed process leaves never looks like a whole file.
  FLATBED_TRY(target.write(layout_.entries_nbytes(), as_bytes(layout_.directory(crcs_))));
  return DataReport{std::move(report), report_casts(plan_, pickle_.storages, casts_), rereads_};
}

Result<void> RecordWriter::write_storages() {
  std::vector<WayRuns> groups = collect_runs();
  const auto write = [this](const PieceQueue& queue, const Piece& piece,
                            std::span<std::byte> buffer) {
    return write_in_turn(queue, piece, buffer);
  };
  if (target_->in_order) {
    window_.emplace(layout_.header_offset(PlannedZip::kFirstData), kSinkWindowBytes);
    return work_in_order(std::move(groups), options_, write);
  }
  RunsByWay runs;
  for (WayRuns& group : groups) {
    std::vector<Run>& of_way = runs[group.way];
    of_way.insert(of_way.end(), group.runs.begin(), group.runs.end());
  }
  return work_through(std::move(runs), options_, write);
}

// From the front to the back. Neighbours that are read in one way share a group.
std::vector<WayRuns> RecordWriter::collect_runs() {
  std::vector<WayRuns> groups;
  const auto count = static_cast<std::uint32_t>(pickle_.storages.size());
  left_ = std::vector<std::atomic<std::uint64_t>>(count);
  has_sum_.resize(count);
  for (std::uint32_t key = 0; key < count; ++key) {
    const std::size_t entry = entry_of(key);
    const std::uint64_t begin = layout_.header_offset(entry);
    const std::uint64_t data = layout_.data_offset(entry);
    const std::uint64_t nbytes = layout_.data_nbytes(entry);
    const std::size_t way = way_of(item_of(key));
    if (groups.empty() || groups.back().way != way) groups.push_back({way, {}});
    groups.back().runs.push_back({key | kHeader, 0, begin, data - begin});
    groups.back().runs.push_back({key, 0, data, nbytes});
    left_[key] = data - begin + nbytes;
    sums_.add(nbytes);
  }
  return groups;
}

// A thread that fails will not write what it has taken, which others may be waiting for.
Result<void> RecordWriter::write_in_turn(const PieceQueue& queue, const Piece& piece,
                                         std::span<std::byte> buffer) {
  Result<void> result = write_piece(queue, piece, buffer);
  if (!window_) return result;
  if (result) {
    window_->advance(piece.offset, piece.nbytes);
  } else {
    window_->fail();
  }
  return result;
}

Result<void> RecordWriter::read_part(std::uint32_t key, std::uint64_t skip,
                                     std::span<std::byte> part) {
  if ((key & kHeader) != 0) return {};
  ReadTally tally;
  FLATBED_TRY(read_item(item_of(key), skip, part, {options_.verify, tally, !options_.ignore_crc}));
  rereads_ += tally.chunks_reread;
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
  const std::optional<std::uint32_t> without_sum = fill_headers(queue, piece, buffer);
  // Of a piece in two parts, the second one is farther ahead.
  const std::uint64_t last = without_sum ? end_of_sum(*without_sum) : piece.offset;
  if (window_ && !window_->wait_for(last)) return {};  // the other thread has the error
  FLATBED_TRY(write_around_sum(piece, buffer.first(piece.nbytes), without_sum));
  return count_written(queue, piece, buffer);
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

// A header whose record ends in the same piece gets its CRC now. The key of the one that does not.
std::optional<std::uint32_t> RecordWriter::fill_headers(const PieceQueue& queue, const Piece& piece,
                                                        std::span<std::byte> buffer) {
  const std::uint64_t end = piece.offset + piece.nbytes;
  std::optional<std::uint32_t> without_sum;
  static_cast<void>(for_each_part(
      queue, piece, buffer,
      [&](const Run& run, std::uint64_t, std::span<std::byte> part) -> Result<void> {
        if ((run.tensor & kHeader) == 0) return {};
        const std::uint32_t key = run.tensor & ~kHeader;
        const std::size_t entry = entry_of(key);
        const bool ends = layout_.data_offset(entry) + layout_.data_nbytes(entry) <= end;
        has_sum_[key] = ends ? 1 : 0;
        if (!ends) without_sum = key;
        const std::string header = layout_.local_header(entry, ends ? sums_.of(key) : 0);
        std::ranges::copy(as_bytes(header), part.begin());
        return {};
      }));
  return without_sum;
}

Result<void> RecordWriter::write_around_sum(const Piece& piece, std::span<const std::byte> bytes,
                                            std::optional<std::uint32_t> key) {
  if (!key) return target_->write(piece.offset, bytes);
  const std::uint64_t after = end_of_sum(*key);
  const auto skipped = static_cast<std::size_t>(after - piece.offset);
  FLATBED_TRY(target_->write(piece.offset, bytes.first(skipped - sizeof(std::uint32_t))));
  return target_->write(after, bytes.subspan(skipped));
}

// After the CRC in a header.
std::uint64_t RecordWriter::end_of_sum(std::uint32_t key) const {
  return layout_.header_offset(entry_of(key)) + pth::kLocalCrcOffset + sizeof(std::uint32_t);
}

// Whoever writes the last bytes of a record writes its sum.
Result<void> RecordWriter::count_written(const PieceQueue& queue, const Piece& piece,
                                         std::span<std::byte> buffer) {
  return for_each_part(
      queue, piece, buffer,
      [&](const Run& run, std::uint64_t, std::span<std::byte> part) -> Result<void> {
        const std::uint32_t key = run.tensor & ~kHeader;
        if (left_[key].fetch_sub(part.size()) != part.size()) return {};
        return write_sum(key);
      });
}

Result<void> RecordWriter::write_sum(std::uint32_t key) {
  const std::size_t entry = entry_of(key);
  crcs_[entry] = sums_.of(key);
  return has_sum_[key] != 0 ? Result<void>() : replace_sum(key);
}

Result<void> RecordWriter::replace_sum(std::uint32_t key) {
  const std::size_t entry = entry_of(key);
  std::byte bytes[sizeof(std::uint32_t)];
  for (std::size_t i = 0; i < sizeof bytes; ++i)
    bytes[i] = static_cast<std::byte>(crcs_[entry] >> (8 * i));
  return target_->write(layout_.header_offset(entry) + pth::kLocalCrcOffset, bytes);
}

// Records of the source that do not match their CRC may have been damaged on the way.
Result<void> RecordWriter::mend_records() {
  if (options_.ignore_crc) return {};
  std::vector<PlacedItem> places;
  for (std::uint32_t key = 0; key < pickle_.storages.size(); ++key) {
    const std::size_t entry = entry_of(key);
    places.push_back({&item_of(key), pickle_.storages[key], layout_.header_offset(entry),
                      layout_.data_offset(entry), layout_.data_nbytes(entry)});
  }
  const std::uint64_t storages_end = layout_.header_offset(layout_.size() - 1);
  const MendCalls calls{
      0, storages_end - layout_.header_offset(PlannedZip::kFirstData),
      [this](std::size_t place, std::uint64_t chunk, std::span<const std::byte> bytes) {
        return sum_chunk(static_cast<std::uint32_t>(place), chunk, bytes);
      },
      [this](std::size_t place) {
        const auto key = static_cast<std::uint32_t>(place);
        crcs_[entry_of(key)] = sums_.of(key);
        return target_->in_order ? Result<void>() : replace_sum(key);
      },
      [this](std::uint64_t offset, std::span<std::byte> out) { fill_between(offset, out); }};
  RecordMender mender(places, records_, options_, *target_, calls);
  FLATBED_ASSIGN(const std::uint64_t rereads, mender.run());
  rereads_ += rereads;
  return {};
}

// The headers, and what is before the storages.
void RecordWriter::fill_between(std::uint64_t offset, std::span<std::byte> out) const {
  const auto put = [&](std::uint64_t at, std::string_view text) {
    const std::uint64_t begin = std::max(at, offset);
    const std::uint64_t end = std::min(at + text.size(), offset + out.size());
    if (begin >= end) return;
    std::memcpy(out.data() + (begin - offset), text.data() + (begin - at),
                static_cast<std::size_t>(end - begin));
  };
  for (std::size_t entry = 0; entry + 1 < layout_.size(); ++entry)
    put(layout_.header_offset(entry), layout_.local_header(entry, crcs_[entry]));
  put(layout_.data_offset(0), pickle_.bytes);
  put(layout_.data_offset(1), PlannedZip::kByteOrder);
}

Result<void> RecordWriter::write_small(std::size_t entry, std::string_view contents) {
  crcs_[entry] = pth::crc32_of(as_bytes(contents));
  const std::string header = layout_.local_header(entry, crcs_[entry]);
  FLATBED_TRY(target_->write(layout_.header_offset(entry), as_bytes(header)));
  return target_->write(layout_.data_offset(entry), as_bytes(contents));
}

Result<void> count_items(const SavePlan& plan, const std::vector<bool>& written,
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

// Pages that the piece shares with its neighbours are left to commit(): a page on its way to the
// device blocks anyone who writes to it.
void start_whole_pages(AtomicFile& file, std::uint64_t offset, std::uint64_t nbytes) noexcept {
  const std::uint64_t begin = (offset + kPageBytes - 1) / kPageBytes * kPageBytes;
  const std::uint64_t end = (offset + nbytes) / kPageBytes * kPageBytes;
  if (begin < end) file.start_writeback(begin, end - begin);
}

// The zip of a plan, and what is known before its bytes are written.
struct Prepared {
  PlannedZip zip;
  SaveTorchReport report;
};

Result<Prepared> prepare(const SavePlan& plan, const SaveTorchOptions& options) {
  std::vector<bool> written(plan.items.size());
  FLATBED_ASSIGN(PlannedZip zip, plan_zip(plan, options, written));
  SaveTorchReport report;
  for (const std::uint32_t item : zip.pickle.storages) written[item] = true;
  FLATBED_TRY(count_items(plan, written, report));
  report.notes = zip.pickle.conversions;
  note_unreached(plan, report);
  report.file.nbytes = zip.layout.file_nbytes();
  return Prepared{std::move(zip), std::move(report)};
}

Result<void> write_records(const SavePlan& plan, const SaveOptions& options, Prepared& prepared,
                           const DataTarget& target) {
  RecordWriter writer(plan, prepared.zip.pickle, prepared.zip.layout, options);
  FLATBED_ASSIGN(DataReport found, writer.run(target));
  prepared.report.file.crc = std::move(found.crc);
  prepared.report.file.casts = std::move(found.casts);
  prepared.report.file.chunks_reread = found.chunks_reread;
  return {};
}

}  // namespace

Result<SaveTorchReport> save_torch(const std::filesystem::path& path, const SavePlan& plan,
                                   const SaveTorchOptions& options) {
  FLATBED_ASSIGN(Prepared prepared, prepare(plan, options));
  FLATBED_ASSIGN(const std::optional<FilePermissions> permissions, source_permissions(plan));
  const auto write = [&](AtomicFile& file) {
    const WriteBytes to_file = [&file](std::uint64_t offset,
                                       std::span<const std::byte> bytes) -> Result<void> {
      FLATBED_TRY(file.write_at(offset, bytes));
      start_whole_pages(file, offset, bytes.size());
      return {};
    };
    return write_records(plan, options.file, prepared, {to_file, false});
  };
  FLATBED_TRY(write_file({path, permissions}, options.file, prepared.report.file, write));
  return std::move(prepared.report);
}

Result<SaveTorchReport> save_torch(ByteSink& sink, const SavePlan& plan,
                                   const SaveTorchOptions& options) {
  FLATBED_ASSIGN(Prepared prepared, prepare(plan, options));
  FLATBED_TRY(sink.begin({prepared.report.file.nbytes, 0, true}));
  if (options.file.dry_run) return std::move(prepared.report);
  FLATBED_TRY(write_records(plan, options.file, prepared, write_to(sink)));
  FLATBED_TRY(sink.commit());
  return std::move(prepared.report);
}

}  // namespace flatbed
