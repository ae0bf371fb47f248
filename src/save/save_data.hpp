// write_data(): writes the tensors' bytes of a new file, from wherever the plan has them, and
// hashes them on the way. The caller writes the header.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "flatbed/byte_sink.hpp"
#include "flatbed/result.hpp"
#include "flatbed/save.hpp"
#include "safetensors/header_write.hpp"
#include "save/save_source.hpp"
#include "save/source_records.hpp"

namespace flatbed {

// Writes bytes to their offset in a new file. Called from several threads, for different ranges.
using WriteBytes =
    std::function<Result<void>(std::uint64_t offset, std::span<const std::byte> bytes)>;

struct DataTarget {
  WriteBytes write;
  // Whether `write` is called from the front to the back, within kSinkWindowBytes.
  bool in_order = false;
  // Of a target that is: see ByteSink::rewrite_nbytes() and rewrite_at().
  std::uint64_t rewrite_nbytes = 0;
  WriteBytes rewrite = {};
};

// Borrows `sink`.
[[nodiscard]] DataTarget write_to(ByteSink& sink);

// Writes every item of `plan` to its place in the file. With options.seal the digests of all chunks
// go to their slots in `header`. A sealed source is verified chunk by chunk with the same digests
// that the new file gets, and the records of a zip by their CRCs. Memory: 48 MiB for tensors that
// are strided or deflated, 32 MiB over a network, otherwise 1 MiB per thread. Errors: those of
// Checkpoint::read (chunk_corrupt, ...), no_space, io_error, cancelled, file_changed,
// zip_crc_mismatch.
[[nodiscard]] Result<DataReport> write_data(const SavePlan& plan, const SaveOptions& options,
                                            safetensors::NewHeader& header,
                                            const DataTarget& target);

// The items of one file of a set, all borrowed.
struct DataPart {
  const SavePlan& plan;                    // of that file
  std::span<const std::uint32_t> numbers;  // for each item, its number in the plan of the set
  SourceRecords& records;                  // of the plan of the set; the caller finishes them
  CastSums& casts;                         // likewise
  std::atomic<std::uint64_t>& rereads;     // likewise; grows by the chunks that were read again
};

// The same for one file of a set. Errors: those above but zip_crc_mismatch.
[[nodiscard]] Result<void> write_part(const DataPart& part, const SaveOptions& options,
                                      safetensors::NewHeader& header, const DataTarget& target);

}  // namespace flatbed
