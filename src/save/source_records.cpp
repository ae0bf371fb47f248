#include "save/source_records.hpp"

#include <algorithm>
#include <functional>
#include <string_view>
#include <utility>
#include <variant>

#include "archive/zip_entry.hpp"
#include "base/str_cat.hpp"
#include "checkpoint/checkpoint_access.hpp"
#include "save/save_source.hpp"

namespace flatbed {

namespace {

constexpr std::uint64_t kSmallBytes = 1 << 20;  // a record that is always worth reading
constexpr std::uint64_t kLeastShare = 4;  // at least a quarter of a larger record must be needed

Error no_sums(const ByteSource& source) {
  return make_error(ErrorCode::zip_crc_mismatch, source.label(), ": the zip states no CRCs");
}

Error mismatch_error(const CrcReport& report) {
  const CrcMismatch& first = report.mismatches.front();
  return make_error(
      ErrorCode::zip_crc_mismatch, first.file.native(), ": zip entry ", quoted(first.record), ": ",
      pth::crc_text(first.found, first.stated),
      report.mismatched == 1 ? "" : str_cat("; ", report.mismatched - 1, " more mismatches"));
}

}  // namespace

Result<SourceRecords> SourceRecords::of(const SavePlan& plan, std::span<const std::uint32_t> items,
                                        const SaveOptions& options) {
  SourceRecords records;
  records.sum_of_.resize(plan.items.size(), kNone);
  for (const std::uint32_t item : items) records.add_item(plan.items[item], item);
  for (const auto& [container, zip] : records.zips_) {
    if (zip.records.list.empty()) continue;
    if (zip.records.state_crcs) {
      records.choose_rest(*container, zip, options.strict_crc);
    } else if (options.strict_crc) {
      return no_sums(container->source());
    } else {
      records.report_.without.emplace_back(container->source().label());
    }
  }
  std::ranges::sort(records.report_.without);
  return records;
}

void SourceRecords::add_item(const SaveItem& item, std::uint32_t number) {
  const auto* ref = std::get_if<TensorRef>(&item.from);
  if (ref == nullptr) return;
  const TensorInfo& info = ref->checkpoint.tensors()[ref->tensor];
  if (info.stored == Stored::computed) {
    // Other bytes are written than those of the record, which is therefore read once more.
    for (const SourceTensor& stored : CheckpointAccess::sources(ref->checkpoint, info))
      take(stored.place, stored.info.nbytes);
    return;
  }
  const TensorPlace place = CheckpointAccess::locate(ref->checkpoint, info);
  const std::optional<TensorRecord> record = take(place, info.nbytes);
  if (!record) return;
  Zip& zip = zip_of(place.container);
  std::uint8_t& summed = zip.summed[record->number];
  if (!zip.records.state_crcs || summed != 0 || !record->whole) return;
  summed = 1;
  sum_of_[number] = sums_.add(place.container.source(), zip.records.list[record->number]);
}

// Adds to the bytes that are needed of the tensor's record, if it has one, and returns it.
std::optional<TensorRecord> SourceRecords::take(const TensorPlace& place, std::uint64_t nbytes) {
  Zip& zip = zip_of(place.container);
  const std::optional<TensorRecord> record = place.container.record_of(place.number);
  if (!record) return record;
  std::uint64_t& taken = zip.taken[record->number];
  taken += std::min(nbytes, UINT64_MAX - taken);
  return record;
}

SourceRecords::Zip& SourceRecords::zip_of(const Container& container) {
  const auto [place, is_new] = zips_.try_emplace(&container);
  Zip& zip = place->second;
  if (!is_new) return zip;
  zip.records = container.records();
  zip.taken.resize(zip.records.list.size());
  zip.summed.resize(zip.records.list.size());
  return zip;
}

// The records of the structure, and those not summed on the way that are worth reading.
void SourceRecords::choose_rest(const Container& container, const Zip& zip, bool all) {
  for (std::size_t i = 0; i < zip.records.list.size(); ++i) {
    if (zip.summed[i] != 0) continue;
    const ContainerRecord& record = zip.records.list[i];
    const std::uint64_t taken = zip.taken[i];
    const bool worth = all || record.nbytes <= kSmallBytes || taken >= record.nbytes / kLeastShare;
    if (record.structure || (taken != 0 && worth)) {
      rest_.push_back(sums_.add(container.source(), record));
    } else if (taken != 0) {
      ++report_.read_in_part;
    }
  }
}

Result<CrcReport> SourceRecords::finish(const SaveOptions& options,
                                        std::atomic<std::uint64_t>& rereads) {
  const ProgressCallback silent;
  PieceRunner runner({silent, options.cancel, nbytes_of(sums_, rest_)});
  const PieceReading reading{std::clamp(options.threads, 1U, kMaxSaveThreads), kPieceBytes,
                             !options.ignore_crc};
  FLATBED_ASSIGN(const std::uint64_t found, read_records(sums_, rest_, runner, reading));
  rereads += found;
  sums_.check(report_);
  if (!options.ignore_crc && report_.mismatched != 0) return mismatch_error(report_);
  if (options.strict_crc && report_.unstated != 0) {
    return make_error(ErrorCode::zip_crc_mismatch, "the zip states no CRC for ",
                      counted(report_.unstated, "storage"));
  }
  return std::move(report_);
}

}  // namespace flatbed
