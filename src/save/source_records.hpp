// SourceRecords: compares the CRC-32 sums that a plan's zips state with the data copied from them.
// A record that is exactly an item is summed while it is copied; the others are read at the end.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "checkpoint/checkpoint_access.hpp"
#include "flatbed/crc.hpp"
#include "flatbed/result.hpp"
#include "flatbed/save.hpp"
#include "save/record_sums.hpp"

namespace flatbed {

// Borrows the plan. wants() and put() are thread-safe, the latter for different chunks.
class SourceRecords {
 public:
  // `items`, numbers of the plan's items, are copied whole. Errors: zip_crc_mismatch (strict_crc,
  // and a zip that states no sums).
  [[nodiscard]] static Result<SourceRecords> of(const SavePlan& plan,
                                                std::span<const std::uint32_t> items,
                                                const SaveOptions& options);

  // Whether put() must be called for the item's chunks.
  [[nodiscard]] bool wants(std::uint32_t item) const noexcept { return sum_of_[item] != kNone; }
  void put(std::uint32_t item, std::uint64_t chunk, std::uint32_t sum) noexcept {
    sums_.put(sum_of_[item], chunk, sum);
  }

  // Of an item that wants(), after put() of all its chunks: whether its record has the sum that it
  // states, and the sum of one chunk.
  [[nodiscard]] bool matches(std::uint32_t item) const noexcept {
    return sums_.matches(sum_of_[item]);
  }
  [[nodiscard]] std::uint32_t of_chunk(std::uint32_t item, std::uint64_t chunk) const noexcept {
    return sums_.of_chunk(sum_of_[item], chunk);
  }

  // Call after all items are copied. `rereads` grows by the chunks that were read again. Errors:
  // zip_crc_mismatch, those of read_records().
  [[nodiscard]] Result<CrcReport> finish(const SaveOptions& options,
                                         std::atomic<std::uint64_t>& rereads);

 private:
  static constexpr std::uint32_t kNone = 0xFFFFFFFF;
  // The records of one zip.
  struct Zip {
    ContainerRecords records;          // none if the file is not a zip
    std::vector<std::uint64_t> taken;  // for each record: bytes of it that are needed
    std::vector<std::uint8_t> summed;  // for each record: whether it is summed while it is copied
  };

  Zip& zip_of(const Container& container);
  std::optional<TensorRecord> take(const TensorPlace& place, std::uint64_t nbytes);
  void add_item(const SaveItem& item, std::uint32_t number);
  void choose_rest(const Container& container, const Zip& zip, bool all);

  std::map<const Container*, Zip> zips_;
  std::vector<std::uint32_t> sum_of_;  // for each item, an index into sums_
  RecordSums sums_;
  std::vector<std::uint32_t> rest_;  // indices into sums_ that are read at the end
  CrcReport report_;
};

}  // namespace flatbed
