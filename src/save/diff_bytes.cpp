#include "save/diff_bytes.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <utility>
#include <vector>

#include "base/str_cat.hpp"
#include "io/digest.hpp"
#include "save/save_source.hpp"

namespace flatbed {

namespace {

using safetensors::kChunkBytes;

// Pieces of memory, which threads borrow and give back.
class Buffers {
 public:
  [[nodiscard]] std::vector<std::byte> take(std::size_t nbytes) {
    std::vector<std::byte> buffer;
    {
      const std::lock_guard lock(mutex_);
      if (!free_.empty()) {
        buffer = std::move(free_.back());
        free_.pop_back();
      }
    }
    if (buffer.size() < nbytes) buffer.resize(nbytes);
    return buffer;
  }
  void give_back(std::vector<std::byte> buffer) {
    const std::lock_guard lock(mutex_);
    free_.push_back(std::move(buffer));
  }

 private:
  std::mutex mutex_;
  std::vector<std::vector<std::byte>> free_;
};

// What is to be done with a pair, and which side `plan_` reads. The other one is read beside it,
// unless its digests do.
struct PairReading {
  std::uint32_t pair = 0;
  bool leads_with_b = false;
  bool other_is_costly = false;  // to read in small pieces
  bool compares_bytes = false;
  bool compares_values = false;
};

// Where byte `at` of `lead`, which begins an element, is in a tensor of the same shape.
std::uint64_t place_in(const TensorInfo& tensor, const TensorInfo& lead, std::uint64_t at) {
  if (tensor.dtype == lead.dtype) return at;
  return at / (bits(lead.dtype) / 8) * (bits(tensor.dtype) / 8);
}

class ContentComparison {
 public:
  ContentComparison(const Contents& contents, const DiffOptions& options)
      : contents_(contents), options_(options) {}

  Result<std::uint64_t> run();

 private:
  void choose(std::uint32_t number);
  void compare_digests(ContentPair& pair);
  void add_reading(const PairReading& reading);
  Result<void> read_part(const Run& run, std::uint64_t skip, std::span<std::byte> part);
  void compare_with_digests(const PairReading& reading, std::uint64_t begin,
                            std::span<const std::byte> bytes);
  Result<void> compare_with_other(const PairReading& reading, std::uint64_t begin,
                                  std::span<const std::byte> bytes);
  // At most a chunk of the side that leads, and the same elements of the other one.
  void compare_chunk(const PairReading& reading, std::uint64_t begin,
                     std::span<const std::byte> bytes, std::span<const std::byte> beside);
  [[nodiscard]] std::size_t step_of(const PairReading& reading, std::size_t part) const;
  [[nodiscard]] const TensorInfo& lead_of(const PairReading& reading) const {
    const ContentPair& pair = contents_.pairs[reading.pair];
    return reading.leads_with_b ? *pair.b : *pair.a;
  }
  [[nodiscard]] const TensorInfo& other_of(const PairReading& reading) const {
    const ContentPair& pair = contents_.pairs[reading.pair];
    return reading.leads_with_b ? *pair.a : *pair.b;
  }
  void compare_values(const PairReading& reading, const ValuePairs& pairs);
  void note_difference(ContentPair& pair, std::uint64_t chunk);

  const Contents& contents_;
  const DiffOptions& options_;
  SavePlan plan_;
  std::vector<PairReading> readings_;  // for each item of the plan
  Buffers buffers_;
  std::mutex mutex_;  // over the results of the pairs
  std::atomic<std::uint64_t> bytes_read_ = 0;
};

void ContentComparison::note_difference(ContentPair& pair, std::uint64_t chunk) {
  const std::lock_guard lock(mutex_);
  pair.first_chunk = pair.chunks == 0 ? chunk : std::min(pair.first_chunk, chunk);
  ++pair.chunks;
}

void ContentComparison::compare_digests(ContentPair& pair) {
  for (std::size_t i = 0; i < pair.a->digests.size(); ++i) {
    if (pair.a->digests.hex(i) != pair.b->digests.hex(i)) note_difference(pair, i);
  }
}

// Digests that both have say whether bytes differ. Values of tensors whose bytes are equal are not
// looked at.
void ContentComparison::choose(std::uint32_t number) {
  ContentPair& pair = contents_.pairs[number];
  if (pair.a->nbytes == 0) return;
  const bool digests = !pair.a->digests.empty() && !pair.b->digests.empty();
  if (digests && pair.same_dtype()) compare_digests(pair);
  const bool may_differ = !digests || !pair.same_dtype() || pair.chunks != 0;
  PairReading reading{.pair = number};
  reading.compares_bytes = !digests && pair.same_dtype();
  reading.compares_values =
      options_.values && may_differ && has_values(pair.a->dtype, pair.b->dtype);
  if (reading.compares_values) pair.values.emplace();
  if (reading.compares_bytes || reading.compares_values) add_reading(reading);
}

// What has digests is not read for bytes alone. Of two that are, the one that is costlier to read
// in pieces leads.
void ContentComparison::add_reading(const PairReading& reading) {
  const ContentPair& pair = contents_.pairs[reading.pair];
  const auto item_of = [](const Checkpoint& checkpoint, const TensorInfo& tensor) {
    SaveItem item{std::string(tensor.name), tensor.dtype, {}, TensorRef{checkpoint, tensor.index}};
    item.shape.assign(tensor.shape.begin(), tensor.shape.end());
    return item;
  };
  SaveItem a = item_of(contents_.a, *pair.a), b = item_of(contents_.b, *pair.b);
  const bool costlier = pair.b->digests.empty() && way_of(b) > way_of(a);
  readings_.push_back(reading);
  PairReading& added = readings_.back();
  added.leads_with_b = costlier || !pair.a->digests.empty();
  added.other_is_costly = way_of(added.leads_with_b ? a : b) != 0;
  plan_.items.push_back(added.leads_with_b ? std::move(b) : std::move(a));
}

void ContentComparison::compare_values(const PairReading& reading, const ValuePairs& pairs) {
  ValueSums sums;
  add_values(pairs, sums);
  const std::lock_guard lock(mutex_);
  contents_.pairs[reading.pair].values->add(sums);
}

// Compares bytes from `begin` on of the side that leads with the digests of the other one.
void ContentComparison::compare_with_digests(const PairReading& reading, std::uint64_t begin,
                                             std::span<const std::byte> bytes) {
  const TensorInfo& other = other_of(reading);
  for (std::size_t at = 0; at < bytes.size(); at += kChunkBytes) {
    const std::uint64_t chunk = (begin + at) / kChunkBytes;
    const std::size_t nbytes = std::min<std::size_t>(kChunkBytes, bytes.size() - at);
    if (hex16(xxh3(bytes.subspan(at, nbytes))) != other.digests.hex(chunk))
      note_difference(contents_.pairs[reading.pair], chunk);
  }
}

// Reads the same elements of the other side, and compares them chunk by chunk.
Result<void> ContentComparison::compare_with_other(const PairReading& reading, std::uint64_t begin,
                                                   std::span<const std::byte> bytes) {
  const TensorInfo& lead = lead_of(reading);
  const TensorInfo& other = other_of(reading);
  const auto nbytes = static_cast<std::size_t>(place_in(other, lead, bytes.size()));
  std::vector<std::byte> buffer = buffers_.take(nbytes);
  const std::span<std::byte> read = std::span(buffer).first(nbytes);
  const Checkpoint& checkpoint = reading.leads_with_b ? contents_.a : contents_.b;
  FLATBED_TRY(checkpoint.read(other, place_in(other, lead, begin), read, Verify::no));
  bytes_read_ += nbytes;
  for (std::size_t at = 0; at < bytes.size(); at += kChunkBytes) {
    const std::size_t in_lead = std::min<std::size_t>(kChunkBytes, bytes.size() - at);
    const std::span<const std::byte> beside =
        read.subspan(static_cast<std::size_t>(place_in(other, lead, at)),
                     static_cast<std::size_t>(place_in(other, lead, in_lead)));
    compare_chunk(reading, begin + at, bytes.subspan(at, in_lead), beside);
  }
  buffers_.give_back(std::move(buffer));
  return {};
}

void ContentComparison::compare_chunk(const PairReading& reading, std::uint64_t begin,
                                      std::span<const std::byte> bytes,
                                      std::span<const std::byte> beside) {
  ContentPair& pair = contents_.pairs[reading.pair];
  if (reading.compares_bytes && std::memcmp(beside.data(), bytes.data(), bytes.size()) != 0)
    note_difference(pair, begin / kChunkBytes);
  if (!reading.compares_values) return;
  const bool swapped = reading.leads_with_b;
  compare_values(reading, {pair.a->dtype, pair.b->dtype, swapped ? beside : bytes,
                           swapped ? bytes : beside, begin / (bits(lead_of(reading).dtype) / 8)});
}

// How many bytes of the side that leads are compared at once. What is costly to read in pieces is
// read in as large ones as the side that leads.
std::size_t ContentComparison::step_of(const PairReading& reading, std::size_t part) const {
  if (!reading.other_is_costly) return kChunkBytes;
  const std::uint64_t ratio = std::max<std::uint64_t>(
      1, place_in(other_of(reading), lead_of(reading), kChunkBytes) / kChunkBytes);
  return std::max<std::size_t>(part / ratio / kChunkBytes, 1) * kChunkBytes;
}

// Reads a part of the side that leads, and compares it.
Result<void> ContentComparison::read_part(const Run& run, std::uint64_t skip,
                                          std::span<std::byte> part) {
  const PairReading& reading = readings_[run.tensor];
  ReadTally tally;
  FLATBED_TRY(read_item(plan_.items[run.tensor], skip, part, {Verify::yes, tally}));
  bytes_read_ += part.size();
  if (!reading.compares_values && !other_of(reading).digests.empty()) {
    compare_with_digests(reading, skip, part);
    return {};
  }
  const std::size_t step = step_of(reading, part.size());
  for (std::size_t at = 0; at < part.size(); at += step)
    FLATBED_TRY(
        compare_with_other(reading, skip + at, part.subspan(at, std::min(step, part.size() - at))));
  return {};
}

Result<std::uint64_t> ContentComparison::run() {
  for (std::uint32_t i = 0; i < contents_.pairs.size(); ++i) choose(i);
  RunsByWay runs;
  std::uint64_t at = 0;
  for (std::uint32_t i = 0; i < plan_.items.size(); ++i) {
    const ContentPair& pair = contents_.pairs[readings_[i].pair];
    const std::uint64_t nbytes = readings_[i].leads_with_b ? pair.b->nbytes : pair.a->nbytes;
    runs[way_of(plan_.items[i])].push_back({i, 0, at, nbytes});
    at += nbytes;
  }
  const SaveOptions as_save{
      .threads = options_.threads, .progress = options_.progress, .cancel = options_.cancel};
  const PieceWork work = [this](const PieceQueue& queue, const Piece& piece,
                                std::span<std::byte> buffer) {
    return for_each_part(queue, piece, buffer,
                         [this](const Run& run, std::uint64_t skip, std::span<std::byte> part) {
                           return read_part(run, skip, part);
                         });
  };
  FLATBED_TRY(work_through(std::move(runs), as_save, work));
  return bytes_read_.load();
}

}  // namespace

Result<std::uint64_t> compare_contents(const Contents& contents, const DiffOptions& options) {
  return ContentComparison(contents, options).run();
}

}  // namespace flatbed
