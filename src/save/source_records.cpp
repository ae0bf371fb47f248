#include "save/source_records.hpp"

#include <algorithm>
#include <functional>
#include <string_view>
#include <utility>
#include <variant>

#include "base/str_cat.hpp"
#include "save/save_source.hpp"

namespace flatbed {

namespace {

constexpr std::uint64_t kSmallBytes = 1 << 20;  // a record that is always worth reading
constexpr std::uint64_t kLeastShare = 4;        // of a larger one a quarter must be wanted

// Whether the item's bytes are those of the record, from the first to the last.
bool is_record(const pth::TorchTensor& tensor, const pth::TorchStorage& storage) {
  return tensor.contiguous && !tensor.conjugate && !tensor.negate && storage.swap_unit <= 1 &&
         tensor.offset == 0 && tensor.nbytes == storage.nbytes;
}

Error no_sums(const File& file) {
  return make_error(ErrorCode::zip_crc_mismatch, file.path().native(),
                    ": the zip states no CRC for any of its records");
}

Error mismatch_error(const CrcReport& report) {
  const CrcMismatch& first = report.mismatches.front();
  return make_error(
      ErrorCode::zip_crc_mismatch, first.file.native(), ": zip entry ", quoted(first.record), ": ",
      pth::crc_text(first.found, first.stated),
      report.mismatched == 1 ? "" : str_cat("; ", report.mismatched - 1, " more do not match"));
}

}  // namespace

Result<SourceRecords> SourceRecords::of(const SavePlan& plan, std::span<const std::uint32_t> items,
                                        const SaveOptions& options) {
  SourceRecords records;
  records.sum_of_.resize(plan.items.size(), kNone);
  for (const std::uint32_t item : items) records.add_item(plan.items[item], item);
  for (const auto& [open, zip] : records.zips_) {
    if (zip.states_crcs) {
      records.choose_rest(*open, zip, options.strict_crc);
    } else if (options.strict_crc) {
      return no_sums(open->file);
    } else {
      records.report_.without.push_back(open->info.path);
    }
  }
  std::ranges::sort(records.report_.without);
  return records;
}

void SourceRecords::add_item(const SaveItem& item, std::uint32_t number) {
  const auto* ref = std::get_if<TensorRef>(&item.from);
  if (ref == nullptr) return;
  const CheckpointAccess::State& state = CheckpointAccess::state(ref->checkpoint);
  const TensorInfo& info = state.tensors[ref->tensor];
  const OpenFile& open = state.file_of(info);
  if (!open.torch || open.torch->zip.entries.empty()) return;
  Zip& zip = zip_of(open);
  const pth::TorchTensor& tensor = state.torch_tensor(info);
  if (tensor.storage == pth::kNoStorage || tensor.nbytes == 0) return;
  const pth::TorchStorage& storage = open.torch->storages[tensor.storage];
  if (storage.record == pth::kNoRecord) return;
  std::uint64_t& taken = zip.taken[storage.record];
  taken += std::min(tensor.nbytes, UINT64_MAX - taken);
  if (!zip.states_crcs || zip.summed[storage.record] != 0 || !is_record(tensor, storage)) return;
  zip.summed[storage.record] = 1;
  sum_of_[number] = sums_.add(open, storage.record);
}

SourceRecords::Zip& SourceRecords::zip_of(const OpenFile& open) {
  const auto [place, is_new] = zips_.try_emplace(&open);
  Zip& zip = place->second;
  if (!is_new) return zip;
  zip.states_crcs = open.torch->zip.state_crcs();
  const std::size_t count = open.torch->zip.entries.size();
  zip.taken.resize(count);
  zip.summed.resize(count);
  zip.storage.resize(count);
  for (const pth::TorchStorage& storage : open.torch->storages) {
    if (storage.record != pth::kNoRecord) zip.storage[storage.record] = 1;
  }
  return zip;
}

// Those of the structure, and those that are not summed on the way and worth it.
void SourceRecords::choose_rest(const OpenFile& open, const Zip& zip, bool all) {
  const pth::ZipEntries& entries = open.torch->zip.entries;
  for (std::uint32_t record = 0; record < entries.size(); ++record) {
    if (zip.summed[record] != 0) continue;
    const std::uint64_t nbytes = entries[record].nbytes;
    const std::uint64_t taken = zip.taken[record];
    const bool read_by_open = zip.storage[record] == 0 &&
                              (nbytes <= kSmallBytes || entries[record].name.ends_with(".pkl"));
    const bool worth = all || nbytes <= kSmallBytes || taken >= nbytes / kLeastShare;
    if (read_by_open || (taken != 0 && worth)) {
      rest_.push_back(sums_.add(open, record));
    } else if (taken != 0) {
      ++report_.read_in_part;
    }
  }
}

Result<CrcReport> SourceRecords::finish(const SaveOptions& options) {
  const ProgressCallback silent;
  PieceRunner runner({silent, options.cancel, nbytes_of(sums_, rest_)});
  FLATBED_TRY(read_records(sums_, rest_, runner, std::clamp(options.threads, 1U, kMaxSaveThreads)));
  sums_.check(report_);
  if (options.strict_crc && report_.mismatched != 0) return mismatch_error(report_);
  return std::move(report_);
}

}  // namespace flatbed
