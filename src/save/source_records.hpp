// SourceRecords: holds the CRC-32 sums that the zips behind a plan state against what is copied out
// of them. A record that is an item, byte for byte, is summed by whoever copies it; what is left is
// read at the end.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "flatbed/crc.hpp"
#include "flatbed/result.hpp"
#include "flatbed/save.hpp"
#include "save/record_sums.hpp"

namespace flatbed {

// Borrows the plan. wants() and put() are thread-safe, the latter for different chunks.
class SourceRecords {
 public:
  // `items`, of those of the plan, are copied whole. Errors: zip_crc_mismatch (strict_crc, and a
  // zip that states no sums).
  [[nodiscard]] static Result<SourceRecords> of(const SavePlan& plan,
                                                std::span<const std::uint32_t> items,
                                                const SaveOptions& options);

  // Whether the sums of the item's chunks are to be put.
  [[nodiscard]] bool wants(std::uint32_t item) const noexcept { return sum_of_[item] != kNone; }
  void put(std::uint32_t item, std::uint64_t chunk, std::uint32_t sum) noexcept {
    sums_.put(sum_of_[item], chunk, sum);
  }

  // When all items are copied. Errors: zip_crc_mismatch (strict_crc), those of read_records().
  [[nodiscard]] Result<CrcReport> finish(const SaveOptions& options);

 private:
  static constexpr std::uint32_t kNone = 0xFFFFFFFF;
  // What is known about the records of one zip.
  struct Zip {
    ContainerRecords records;          // none: the file is no zip
    std::vector<std::uint64_t> taken;  // per record: bytes of it that are wanted
    std::vector<std::uint8_t> summed;  // per record: while it is copied
  };

  Zip& zip_of(const Container& container);
  void add_item(const SaveItem& item, std::uint32_t number);
  void choose_rest(const Container& container, const Zip& zip, bool all);

  std::map<const Container*, Zip> zips_;
  std::vector<std::uint32_t> sum_of_;  // per item, into sums_
  RecordSums sums_;
  std::vector<std::uint32_t> rest_;  // of sums_: to be read in the end
  CrcReport report_;
};

}  // namespace flatbed
