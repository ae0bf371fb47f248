#include "save/compare_data.hpp"

#include <algorithm>
#include <utility>

#include "io/digest.hpp"
#include "save/save_source.hpp"

namespace flatbed {

namespace {

using safetensors::kChunkBytes;

Result<void> compare_chunk(const DataComparison& comparison, const Sample& sample,
                           std::uint64_t chunk, std::span<const std::byte> bytes) {
  const Run& place = comparison.places[sample.place];
  const SaveItem& item = comparison.plan.items[place.tensor];
  if (is_verified(item, comparison.options))
    FLATBED_TRY(check_item_chunk(item, chunk, xxh3(bytes)));
  const std::uint64_t skip = chunk * kChunkBytes;
  FLATBED_ASSIGN(const bool equal, comparison.file.holds(place.offset + skip, bytes));
  if (!equal) return data_difference(item.name, skip, bytes.size());
  return comparison.on_equal(sample.place, chunk, bytes);
}

// The bytes of a sample from byte `skip` on are read into `part` and compared.
Result<void> compare_part(const DataComparison& comparison, const Sample& sample,
                          std::uint64_t skip, std::span<std::byte> part) {
  const std::uint64_t begin = sample.first_chunk * kChunkBytes + skip;
  const std::uint32_t item = comparison.places[sample.place].tensor;
  ReadTally ignored;
  FLATBED_TRY(
      read_item(comparison.plan.items[item], begin, part, {comparison.options.verify, ignored}));
  for (std::size_t at = 0; at < part.size(); at += kChunkBytes) {
    const std::size_t nbytes = std::min<std::size_t>(kChunkBytes, part.size() - at);
    FLATBED_TRY(
        compare_chunk(comparison, sample, (begin + at) / kChunkBytes, part.subspan(at, nbytes)));
  }
  return {};
}

}  // namespace

Result<void> compare_data(const DataComparison& comparison, std::span<const Sample> samples) {
  RunsByWay runs;
  for (std::uint32_t i = 0; i < samples.size(); ++i) {
    const SaveItem& item = comparison.plan.items[comparison.places[samples[i].place].tensor];
    runs[way_of(item)].push_back({i, 0, samples[i].offset, samples[i].nbytes});
  }
  FLATBED_TRY(work_through(
      std::move(runs), comparison.options,
      [&](const PieceQueue& queue, const Piece& piece, std::span<std::byte> buffer) {
        return for_each_part(queue, piece, buffer,
                             [&](const Run& run, std::uint64_t skip, std::span<std::byte> part) {
                               return compare_part(comparison, samples[run.tensor], skip, part);
                             });
      }));
  return check_sources(comparison.plan);
}

}  // namespace flatbed
