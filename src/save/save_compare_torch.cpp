// compare_torch_output(): what a path holds against what save_torch() would write there.
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "archive/crc32.hpp"
#include "base/bytes.hpp"
#include "base/str_cat.hpp"
#include "flatbed/save_compare.hpp"
#include "save/compare_data.hpp"
#include "save/output_file.hpp"
#include "save/planned_zip.hpp"
#include "save/record_sums.hpp"

namespace flatbed {

namespace {

// The records of the file against those of the plan. The file has the size of the plan's.
class ZipComparison {
 public:
  ZipComparison(const OutputFile& file, const SavePlan& plan, const PlannedZip& planned)
      : file_(file), plan_(plan), planned_(planned) {}

  // Returns a difference() or success. First headers, the directory and the small records.
  Result<void> compare_structure();
  Result<void> compare_storages(const SaveOptions& options, CompareData data);

 private:
  Result<void> compare_header(std::size_t entry);
  Result<void> compare_record(std::size_t entry, std::string_view contents);
  Result<void> check_sums(std::span<const Run> places, std::span<const Sample> samples,
                          const ChunkSums& sums) const;

  const OutputFile& file_;
  const SavePlan& plan_;
  const PlannedZip& planned_;
  std::vector<std::uint32_t> crcs_;  // for each entry, as the file states it
};

Result<void> ZipComparison::compare_structure() {
  const pth::ZipLayout& layout = planned_.layout;
  crcs_.resize(layout.size());
  FLATBED_TRY(compare_record(0, planned_.pickle.bytes));
  FLATBED_TRY(compare_record(1, PlannedZip::kByteOrder));
  FLATBED_TRY(compare_record(layout.size() - 1, PlannedZip::kVersion));
  for (std::size_t key = 0; key < planned_.pickle.storages.size(); ++key)
    FLATBED_TRY(compare_header(PlannedZip::kFirstData + key));
  FLATBED_ASSIGN(const bool equal,
                 file_.holds(layout.entries_nbytes(), as_bytes(layout.directory(crcs_))));
  return equal ? Result<void>() : difference("the zip's directory differs");
}

// Takes the CRC from the file; the storage's bytes are compared with it later.
Result<void> ZipComparison::compare_header(std::size_t entry) {
  const std::uint64_t begin = planned_.layout.header_offset(entry);
  FLATBED_ASSIGN(const std::string found,
                 file_.read(begin, planned_.layout.data_offset(entry) - begin));
  crcs_[entry] = load_le32(as_bytes(found).data() + pth::kLocalCrcOffset);
  if (found == planned_.layout.local_header(entry, crcs_[entry])) return {};
  return difference(str_cat("the header of zip entry ", entry, " differs"));
}

Result<void> ZipComparison::compare_record(std::size_t entry, std::string_view contents) {
  FLATBED_TRY(compare_header(entry));
  FLATBED_ASSIGN(const bool equal,
                 file_.holds(planned_.layout.data_offset(entry), as_bytes(contents)));
  if (equal && crcs_[entry] == pth::crc32_of(as_bytes(contents))) return {};
  return difference(entry == 0 ? "the structure (data.pkl) differs"
                               : str_cat("zip entry ", entry, " differs"));
}

Result<void> ZipComparison::compare_storages(const SaveOptions& options, CompareData data) {
  std::vector<Run> places;
  ChunkSums sums;
  for (std::size_t key = 0; key < planned_.pickle.storages.size(); ++key) {
    const std::size_t entry = PlannedZip::kFirstData + key;
    const std::uint64_t nbytes = planned_.layout.data_nbytes(entry);
    places.push_back(
        {planned_.pickle.storages[key], 0, planned_.layout.data_offset(entry), nbytes});
    sums.add(nbytes);
  }
  const auto sum = [&](std::uint32_t place, std::uint64_t chunk,
                       std::span<const std::byte> bytes) -> Result<void> {
    sums.put(place, chunk, pth::crc32_of(bytes));
    return {};
  };
  const std::vector<Sample> samples = choose_samples(places, data);
  SaveOptions reading = options;
  if (data == CompareData::sampled) reading.progress = {};
  FLATBED_TRY(compare_data({plan_, reading, file_, places, sum}, samples));
  return check_sums(places, samples, sums);
}

// Of a storage that was compared whole, the CRC is known.
Result<void> ZipComparison::check_sums(std::span<const Run> places, std::span<const Sample> samples,
                                       const ChunkSums& sums) const {
  for (const Sample& sample : samples) {
    const Run& place = places[sample.place];
    if (sample.nbytes != place.nbytes) continue;
    if (sums.of(sample.place) == crcs_[PlannedZip::kFirstData + sample.place]) continue;
    return difference(
        str_cat("tensor ", quoted(plan_.items[place.tensor].name), ": its CRC does not match"));
  }
  return {};
}

Result<void> compare_file(const OutputFile& file, const SavePlan& plan,
                          const SaveTorchOptions& options, CompareData data) {
  std::vector<bool> written(plan.items.size());
  FLATBED_ASSIGN(const PlannedZip planned, plan_zip(plan, options, written));
  if (file.size() != planned.layout.file_nbytes()) {
    return difference(str_cat("found ", counted(file.size(), "byte"), ", expected ",
                              planned.layout.file_nbytes()));
  }
  ZipComparison comparison(file, plan, planned);
  FLATBED_TRY(comparison.compare_structure());
  return comparison.compare_storages(options.file, data);
}

}  // namespace

Result<OutputState> compare_torch_output(const std::filesystem::path& path, const SavePlan& plan,
                                         const SaveTorchOptions& options, CompareData data) {
  OutputState state;
  FLATBED_ASSIGN(const std::optional<OutputFile> file, OutputFile::open(path, state));
  if (!file) return state;
  return conclude(*file, compare_file(*file, plan, options, data));
}

Result<OutputState> compare_torch_output(std::shared_ptr<const ByteSource> file,
                                         const SavePlan& plan, const SaveTorchOptions& options,
                                         CompareData data) {
  const OutputFile output(std::move(file));
  return conclude(output, compare_file(output, plan, options, data));
}

}  // namespace flatbed
