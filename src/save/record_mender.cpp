#include "save/record_mender.hpp"

#include <algorithm>
#include <cstring>
#include <utility>
#include <variant>

#include "archive/crc32.hpp"
#include "archive/zip_entry.hpp"
#include "base/str_cat.hpp"
#include "checkpoint/checkpoint_access.hpp"
#include "io/large_allocator.hpp"
#include "io/reread.hpp"
#include "safetensors/seal.hpp"
#include "save/record_sums.hpp"
#include "save/save_source.hpp"

namespace flatbed {

namespace {

using safetensors::chunk_count;
using safetensors::kChunkBytes;

Result<LargeBlock> allocate(std::size_t nbytes) {
  LargeBlock block = try_allocate_large(nbytes);
  if (!block)
    return make_error(ErrorCode::resource_exhausted, "out of memory for ", nbytes, " bytes");
  return block;
}

// The contents of an item that has a source_of(), for matches_or_reread(). Borrows the place.
class ItemSource final : public ByteSource {
 public:
  explicit ItemSource(const PlacedItem& place) : place_(place), source_(*source_of(*place.item)) {}

  [[nodiscard]] std::string_view label() const noexcept override { return source_.label(); }
  [[nodiscard]] std::uint64_t size() const noexcept override { return place_.nbytes; }
  [[nodiscard]] Result<void> read_at(std::uint64_t offset,
                                     std::span<std::byte> out) const override {
    return reread_item(*place_.item, offset, out);
  }
  [[nodiscard]] unsigned max_rereads() const noexcept override { return source_.max_rereads(); }

 private:
  const PlacedItem& place_;
  const ByteSource& source_;
};

}  // namespace

Result<std::uint64_t> RecordMender::run() {
  bool all_match = true;
  for (std::size_t i = 0; i < places_.size(); ++i) {
    const PlacedItem& place = places_[i];
    for (unsigned left = rereads_of(place); left > 0 && !records_.matches(place.number); --left)
      FLATBED_TRY(mend(i));
    all_match = all_match && (!records_.wants(place.number) || records_.matches(place.number));
  }
  // The file fails anyway if one does not.
  if (all_match) FLATBED_TRY(send_parts());
  return rereads_;
}

// 0 if the item cannot be mended.
unsigned RecordMender::rereads_of(const PlacedItem& place) const {
  if (!records_.wants(place.number) || (target_.in_order && target_.rewrite_nbytes == 0)) return 0;
  return source_of(*place.item)->max_rereads();
}

// All bytes have been written once, and are reported so again, so that the caller may end it.
Result<void> RecordMender::check() const {
  if (options_.progress) FLATBED_TRY(options_.progress({calls_.nbytes, calls_.nbytes}));
  if (options_.cancel == nullptr || !*options_.cancel) return {};
  return make_error(ErrorCode::cancelled, "interrupted while a record was read again");
}

// What was replaced counts even if the rest could not be read: that may have been all the damage.
Result<void> RecordMender::mend(std::size_t number) {
  changed_ = false;
  FLATBED_TRY(reread(number));
  if (!changed_) return {};
  const PlacedItem& place = places_[number];
  note_parts(place.head, place.offset);
  return calls_.mended(number);
}

// Reads the record once more, up to where it does not inflate.
Result<void> RecordMender::reread(std::size_t number) {
  const PlacedItem& place = places_[number];
  const std::size_t most = reread_nbytes(*source_of(*place.item));
  FLATBED_ASSIGN(const LargeBlock buffer, allocate(most));
  for (std::uint64_t at = 0; at < place.nbytes; at += most) {
    FLATBED_TRY(check());
    const std::span<std::byte> bytes{
        buffer.get(), static_cast<std::size_t>(std::min<std::uint64_t>(most, place.nbytes - at))};
    rereads_ += chunk_count(bytes.size());
    const Result<void> read = reread_item(*place.item, at, bytes);
    // Another attempt may inflate.
    if (!read && read.error().code == ErrorCode::zip_deflate_malformed) return {};
    FLATBED_TRY(read);
    FLATBED_TRY(take(number, at, bytes));
  }
  return {};
}

Result<void> RecordMender::take(std::size_t number, std::uint64_t at,
                                std::span<const std::byte> bytes) {
  const PlacedItem& place = places_[number];
  for (std::size_t skip = 0; skip < bytes.size(); skip += kChunkBytes) {
    const std::uint64_t chunk = (at + skip) / kChunkBytes;
    const std::span<const std::byte> read =
        bytes.subspan(skip, std::min<std::size_t>(kChunkBytes, bytes.size() - skip));
    if (pth::crc32_of(read) == records_.of_chunk(place.number, chunk)) continue;
    changed_ = true;
    FLATBED_TRY(calls_.changed(number, chunk, read));
    FLATBED_TRY(replace(place.offset + at + skip, read));
  }
  return {};
}

Result<void> RecordMender::replace(std::uint64_t offset, std::span<const std::byte> bytes) {
  if (!target_.in_order) return target_.write(offset, bytes);
  note_parts(offset, offset + bytes.size());
  return {};
}

void RecordMender::note_parts(std::uint64_t begin, std::uint64_t end) {
  if (!target_.in_order || begin == end) return;
  for (std::uint64_t part = begin / target_.rewrite_nbytes;
       part <= (end - 1) / target_.rewrite_nbytes; ++part) {
    parts_.insert(part);
  }
}

Result<void> RecordMender::send_parts() {
  if (parts_.empty()) return {};
  const std::uint64_t end = places_.back().offset + places_.back().nbytes;
  FLATBED_ASSIGN(const LargeBlock buffer,
                 allocate(static_cast<std::size_t>(target_.rewrite_nbytes)));
  for (const std::uint64_t part : parts_) {
    FLATBED_TRY(check());
    const std::uint64_t from = std::max(part * target_.rewrite_nbytes, calls_.begin);
    const std::uint64_t to = std::min((part + 1) * target_.rewrite_nbytes, end);
    const std::span<std::byte> bytes{buffer.get(), static_cast<std::size_t>(to - from)};
    FLATBED_TRY(fill(from, bytes));
    FLATBED_TRY(target_.rewrite(from, bytes));
  }
  return {};
}

Result<void> RecordMender::fill(std::uint64_t offset, std::span<std::byte> out) {
  calls_.fill_between(offset, out);
  const std::uint64_t end = offset + out.size();
  const auto after = std::ranges::upper_bound(
      places_, offset, {}, [](const PlacedItem& place) { return place.offset + place.nbytes; });
  for (auto place = after; place != places_.end() && place->offset < end; ++place) {
    const std::uint64_t begin = std::max(offset, place->offset);
    const std::uint64_t stop = std::min(end, place->offset + place->nbytes);
    FLATBED_TRY(fill_item(*place, begin - place->offset,
                          out.subspan(static_cast<std::size_t>(begin - offset),
                                      static_cast<std::size_t>(stop - begin))));
  }
  return {};
}

// Chunk by chunk, because those are what sums are known of.
Result<void> RecordMender::fill_item(const PlacedItem& place, std::uint64_t from,
                                     std::span<std::byte> out) {
  ByteBuffer whole;  // a chunk of which a part is in `out`
  while (!out.empty()) {
    const std::uint64_t chunk = from / kChunkBytes;
    const std::uint64_t begin = chunk * kChunkBytes;
    const auto nbytes =
        static_cast<std::size_t>(std::min<std::uint64_t>(kChunkBytes, place.nbytes - begin));
    const auto skip = static_cast<std::size_t>(from - begin);
    const std::size_t taken = std::min(nbytes - skip, out.size());
    if (taken == nbytes) {
      FLATBED_TRY(read_chunk(place, chunk, out.first(nbytes)));
    } else {
      whole.resize(nbytes);
      FLATBED_TRY(read_chunk(place, chunk, whole));
      std::memcpy(out.data(), whole.data() + skip, taken);
    }
    from += taken;
    out = out.subspan(taken);
  }
  return {};
}

Result<void> RecordMender::read_chunk(const PlacedItem& place, std::uint64_t chunk,
                                      std::span<std::byte> out) {
  ReadTally tally;
  FLATBED_TRY(read_item(*place.item, chunk * kChunkBytes, out, {options_.verify, tally}));
  rereads_ += tally.chunks_reread;
  if (!records_.wants(place.number)) return {};
  const std::uint32_t expected = records_.of_chunk(place.number, chunk);
  std::uint32_t found = 0;
  const auto matches = [&](std::span<const std::byte> read) {
    found = pth::crc32_of(read);
    return found == expected;
  };
  const ItemSource source(place);
  FLATBED_ASSIGN(const bool same,
                 matches_or_reread({source, chunk * kChunkBytes, out}, rereads_, matches));
  if (same) return {};
  return make_error(ErrorCode::zip_crc_mismatch, source.label(), ": tensor ",
                    quoted(place.item->name), ": chunk ", chunk,
                    " cannot be read once more as it was: ", pth::crc_text(found, expected));
}

}  // namespace flatbed
