// RecordMender: reads records of zips again that did not match their CRC when a new file was
// written from them, and replaces in that file what had arrived damaged. Only for sources where
// that may help (ByteSource::max_rereads()), and targets that take bytes again. Used by one
// thread, after all bytes of the items were written.
//
//   item       |- chunk -|- chunk -|- chunk -|     read whole; the damaged chunk differs
//   new file   the chunk is written again, or of a sink that is in_order() the parts around it:
//   sink       |--- part ---|--- part ---|         put together anew from all items in it
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <set>
#include <span>
#include <vector>

#include "flatbed/result.hpp"
#include "flatbed/save.hpp"
#include "save/save_data.hpp"
#include "save/source_records.hpp"

namespace flatbed {

// An item and its place in the new file.
struct PlacedItem {
  const SaveItem* item;
  std::uint32_t number;  // in SourceRecords
  std::uint64_t head;    // what depends on the item's sums begins here, before the item
  std::uint64_t offset;
  std::uint64_t nbytes;
};

// What the writer of the file knows and does.
struct MendCalls {
  std::uint64_t begin = 0;   // what is before it is not touched, nor what is after the last item
  std::uint64_t nbytes = 0;  // that the progress counted, all of them
  // Takes the sums of a chunk whose bytes differ from the first read.
  std::function<Result<void>(std::size_t place, std::uint64_t chunk,
                             std::span<const std::byte> bytes)>
      changed;
  // Such chunks of an item were replaced: takes and, if the target is not in_order, writes what
  // depends on all of them.
  std::function<Result<void>(std::size_t place)> mended;
  // Fills the parts of `out` that are not of items; `out` is the file's from `offset` on.
  std::function<void(std::uint64_t offset, std::span<std::byte> out)> fill_between;
};

// Borrows everything.
class RecordMender {
 public:
  // `places` ascend and do not overlap.
  RecordMender(std::span<const PlacedItem> places, SourceRecords& records,
               const SaveOptions& options, const DataTarget& target, const MendCalls& calls)
      : places_(places), records_(records), options_(options), target_(target), calls_(calls) {}

  // Returns the number of chunks that were read again. A record that still does not match is no
  // error here. Errors: those of the sources but zip_deflate_malformed, of the target and of the
  // calls; cancelled, zip_crc_mismatch (a part cannot be put together once more),
  // resource_exhausted.
  [[nodiscard]] Result<std::uint64_t> run();

 private:
  [[nodiscard]] unsigned rereads_of(const PlacedItem& place) const;
  [[nodiscard]] Result<void> check() const;
  Result<void> mend(std::size_t number);
  Result<void> reread(std::size_t number);
  Result<void> take(std::size_t number, std::uint64_t at, std::span<const std::byte> bytes);
  Result<void> replace(std::uint64_t offset, std::span<const std::byte> bytes);
  void note_parts(std::uint64_t begin, std::uint64_t end);
  Result<void> send_parts();
  Result<void> fill(std::uint64_t offset, std::span<std::byte> out);
  Result<void> fill_item(const PlacedItem& place, std::uint64_t from, std::span<std::byte> out);
  Result<void> read_chunk(const PlacedItem& place, std::uint64_t chunk, std::span<std::byte> out);

  std::span<const PlacedItem> places_;
  SourceRecords& records_;
  const SaveOptions& options_;
  const DataTarget& target_;
  const MendCalls& calls_;
  std::set<std::uint64_t> parts_;  // to be written again, of a target that is in_order
  bool changed_ = false;           // a chunk of the record that is being read again
  std::uint64_t rereads_ = 0;
};

}  // namespace flatbed
