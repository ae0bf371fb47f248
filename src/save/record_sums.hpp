// RecordSums: CRC-32 sums of whole zip records, combined from those of their chunks, which may come
// in any order and from any thread. ChunkSums: the sums of any runs of bytes. read_records(): reads
// records and sums them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "flatbed/crc.hpp"
#include "flatbed/result.hpp"
#include "io/container.hpp"
#include "save/pieces.hpp"

namespace flatbed {

// Sums of runs of bytes, cut into chunks of safetensors::kChunkBytes. First add(), on one thread;
// then put(), on one thread for each chunk; then the rest.
class ChunkSums {
 public:
  std::uint32_t add(std::uint64_t nbytes);  // returns the run's number: 0, 1, 2 ...
  void put(std::uint32_t run, std::uint64_t chunk, std::uint32_t sum) noexcept {
    sums_[first_[run] + chunk] = sum;
  }
  [[nodiscard]] std::uint32_t of(std::uint32_t run) const noexcept;  // of all its chunks
  [[nodiscard]] std::uint32_t of_chunk(std::uint32_t run, std::uint64_t chunk) const noexcept {
    return sums_[first_[run] + chunk];
  }

 private:
  std::vector<std::uint64_t> nbytes_;  // for each run
  std::vector<std::uint64_t> first_;   // for each run, an index into sums_
  std::vector<std::uint32_t> sums_;
};

// Borrows the sources and the names of the records.
class RecordSums {
 public:
  // `record` is one of the records in the file `source`.
  std::uint32_t add(const ByteSource& source, const ContainerRecord& record);
  [[nodiscard]] const ByteSource& source(std::uint32_t number) const {
    return *records_[number].source;
  }
  [[nodiscard]] const ContainerRecord& entry(std::uint32_t number) const {
    return records_[number].entry;
  }
  void put(std::uint32_t number, std::uint64_t chunk, std::uint32_t sum) noexcept {
    sums_.put(number, chunk, sum);
  }

  [[nodiscard]] std::uint32_t of_chunk(std::uint32_t number, std::uint64_t chunk) const noexcept {
    return sums_.of_chunk(number, chunk);
  }
  // Whether the record has the sum that it states, or states none. All its chunks have been put.
  [[nodiscard]] bool matches(std::uint32_t number) const noexcept {
    const ContainerRecord& record = records_[number].entry;
    return sums_.of(number) == record.crc || (record.storage && record.crc == 0);
  }

  // Adds every record to `report`. All chunks must have been put.
  void check(CrcReport& report) const;

 private:
  struct Record {
    const ByteSource* source;
    ContainerRecord entry;
  };
  std::vector<Record> records_;
  ChunkSums sums_;
};

// The size of these records after inflating.
[[nodiscard]] std::uint64_t nbytes_of(const RecordSums& sums,
                                      std::span<const std::uint32_t> numbers);

// How much of a record is read again at once: a multiple of the chunk size, up to 8 MiB.
[[nodiscard]] std::size_t reread_nbytes(const ByteSource& source) noexcept;

// Reads the records `numbers` whole and puts their sums. Those that do not inflate or do not match
// their CRC are read again where that may help (ByteSource::max_rereads()), on the calling thread.
// Returns the number of chunks that were. Errors: those of File::read_at, zip_deflate_malformed
// (both name the record), cancelled.
[[nodiscard]] Result<std::uint64_t> read_records(RecordSums& sums,
                                                 std::span<const std::uint32_t> numbers,
                                                 PieceRunner& runner, const PieceReading& reading);

}  // namespace flatbed
