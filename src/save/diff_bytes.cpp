#include "save/diff_bytes.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <utility>
#include <vector>

#include "io/digest.hpp"
#include "io/large_allocator.hpp"
#include "save/save_source.hpp"

namespace flatbed {

namespace {

using safetensors::kChunkBytes;

// Pieces of memory for a chunk, which threads borrow and give back.
class ChunkBuffers {
 public:
  [[nodiscard]] std::vector<std::byte> take() {
    const std::lock_guard lock(mutex_);
    if (free_.empty()) return std::vector<std::byte>(kChunkBytes);
    std::vector<std::byte> buffer = std::move(free_.back());
    free_.pop_back();
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

class ContentComparison {
 public:
  explicit ContentComparison(const Contents& contents) : contents_(contents) {}

  Result<std::uint64_t> run(const DiffOptions& options);

 private:
  // A pair that is read: `plan` reads one side; the other one is read beside it or has digests.
  struct Reading {
    std::uint32_t pair = 0;
    bool other_is_a = false;
  };

  void compare_digests(ContentPair& pair);
  void add_reading(std::uint32_t number);
  Result<void> compare_part(const Run& run, std::uint64_t skip, std::span<const std::byte> part);
  Result<bool> is_equal(const Reading& reading, std::uint64_t chunk,
                        std::span<const std::byte> bytes);
  void note_difference(ContentPair& pair, std::uint64_t chunk);

  const Contents& contents_;
  SavePlan plan_;
  std::vector<Reading> readings_;  // for each item of the plan
  ChunkBuffers buffers_;
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

// What has digests is not read. Of two that are, the one that is costlier to read in pieces leads.
void ContentComparison::add_reading(std::uint32_t number) {
  const ContentPair& pair = contents_.pairs[number];
  const auto item_of = [](const Checkpoint& checkpoint, const TensorInfo& tensor) {
    SaveItem item{std::string(tensor.name), tensor.dtype, {}, TensorRef{checkpoint, tensor.index}};
    item.shape.assign(tensor.shape.begin(), tensor.shape.end());
    return item;
  };
  SaveItem a = item_of(contents_.a, *pair.a), b = item_of(contents_.b, *pair.b);
  const bool lead_with_b =
      !pair.a->digests.empty() || (pair.b->digests.empty() && way_of(b) > way_of(a));
  readings_.push_back({number, lead_with_b});
  plan_.items.push_back(lead_with_b ? std::move(b) : std::move(a));
}

Result<bool> ContentComparison::is_equal(const Reading& reading, std::uint64_t chunk,
                                         std::span<const std::byte> bytes) {
  const ContentPair& pair = contents_.pairs[reading.pair];
  const TensorInfo& other = reading.other_is_a ? *pair.a : *pair.b;
  if (!other.digests.empty())
    return hex16(xxh3(bytes)) == other.digests.hex(static_cast<std::size_t>(chunk));
  std::vector<std::byte> buffer = buffers_.take();
  const std::span<std::byte> read = std::span(buffer).first(bytes.size());
  const Checkpoint& checkpoint = reading.other_is_a ? contents_.a : contents_.b;
  FLATBED_TRY(checkpoint.read(other, chunk * kChunkBytes, read, Verify::no));
  const bool equal = std::memcmp(read.data(), bytes.data(), bytes.size()) == 0;
  buffers_.give_back(std::move(buffer));
  bytes_read_ += bytes.size();
  return equal;
}

Result<void> ContentComparison::compare_part(const Run& run, std::uint64_t skip,
                                             std::span<const std::byte> part) {
  const Reading& reading = readings_[run.tensor];
  for (std::size_t at = 0; at < part.size(); at += kChunkBytes) {
    const std::uint64_t chunk = (skip + at) / kChunkBytes;
    const std::size_t nbytes = std::min<std::size_t>(kChunkBytes, part.size() - at);
    FLATBED_ASSIGN(const bool equal, is_equal(reading, chunk, part.subspan(at, nbytes)));
    if (!equal) note_difference(contents_.pairs[reading.pair], chunk);
  }
  bytes_read_ += part.size();
  return {};
}

Result<std::uint64_t> ContentComparison::run(const DiffOptions& options) {
  for (std::uint32_t i = 0; i < contents_.pairs.size(); ++i) {
    ContentPair& pair = contents_.pairs[i];
    if (!pair.a->digests.empty() && !pair.b->digests.empty()) {
      compare_digests(pair);
    } else if (pair.a->nbytes != 0) {
      add_reading(i);
    }
  }
  RunsByWay runs;
  std::uint64_t at = 0;
  for (std::uint32_t i = 0; i < plan_.items.size(); ++i) {
    const std::uint64_t nbytes = contents_.pairs[readings_[i].pair].a->nbytes;
    runs[way_of(plan_.items[i])].push_back({i, 0, at, nbytes});
    at += nbytes;
  }
  const SaveOptions as_save{
      .threads = options.threads, .progress = options.progress, .cancel = options.cancel};
  FLATBED_TRY(work_through(
      std::move(runs), as_save,
      [&](const PieceQueue& queue, const Piece& piece, std::span<std::byte> buffer) {
        return for_each_part(
            queue, piece, buffer,
            [&](const Run& run, std::uint64_t skip, std::span<std::byte> part) -> Result<void> {
              ReadTally tally;
              FLATBED_TRY(read_item(plan_.items[run.tensor], skip, part, {Verify::yes, tally}));
              return compare_part(run, skip, part);
            });
      }));
  return bytes_read_.load();
}

}  // namespace

Result<std::uint64_t> compare_contents(const Contents& contents, const DiffOptions& options) {
  return ContentComparison(contents).run(options);
}

}  // namespace flatbed
