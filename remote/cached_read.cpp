#include "cached_read.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

namespace flatbed::remote {

namespace {

constexpr std::uint64_t kBlock = BlockCache::kBlock;

// One read: blocks that lie in `out` are filled there, the others, at its ends, in memory of their
// own.
class Reading {
 public:
  Reading(const CachedFile& file, std::uint64_t offset, std::span<std::byte> out)
      : file_(file),
        offset_(offset),
        out_(out),
        first_(offset / kBlock),
        end_((offset + out.size() + kBlock - 1) / kBlock) {}

  Result<void> run(const FetchParts& fetch) {
    std::vector<bool> missing(static_cast<std::size_t>(end_ - first_));
    for (std::uint64_t block = first_; block < end_; ++block)
      missing[static_cast<std::size_t>(block - first_)] =
          !file_.cache.load(file_.key, block, memory_of(block));
    for (std::size_t i = 0; i < missing.size();) {
      std::size_t end = i;
      while (end < missing.size() && missing[end]) ++end;
      if (end > i) FLATBED_TRY(fetch_blocks(first_ + i, first_ + end, fetch));
      i = end + 1;
    }
    copy_ends();
    return {};
  }

 private:
  [[nodiscard]] std::size_t nbytes_of(std::uint64_t block) const {
    return static_cast<std::size_t>(std::min<std::uint64_t>(kBlock, file_.nbytes - block * kBlock));
  }
  [[nodiscard]] bool is_inside(std::uint64_t block) const {
    return block * kBlock >= offset_ && block * kBlock + nbytes_of(block) <= offset_ + out_.size();
  }
  [[nodiscard]] std::span<std::byte> memory_of(std::uint64_t block) {
    if (is_inside(block))
      return out_.subspan(static_cast<std::size_t>(block * kBlock - offset_), nbytes_of(block));
    std::vector<std::byte>& end = block == first_ ? front_ : back_;
    end.resize(nbytes_of(block));
    return end;
  }
  Result<void> fetch_blocks(std::uint64_t begin, std::uint64_t end, const FetchParts& fetch) {
    std::vector<std::span<std::byte>> parts;
    for (std::uint64_t block = begin; block < end; ++block) parts.push_back(memory_of(block));
    FLATBED_TRY(fetch(begin * kBlock, parts));
    for (std::uint64_t block = begin; block < end; ++block)
      file_.cache.store(file_.key, block, parts[static_cast<std::size_t>(block - begin)]);
    return {};
  }
  void copy_ends() {
    copy_from(first_, front_);
    if (end_ - 1 != first_) copy_from(end_ - 1, back_);
  }
  void copy_from(std::uint64_t block, std::span<const std::byte> bytes) {
    if (bytes.empty()) return;
    const std::uint64_t begin = std::max(offset_, block * kBlock);
    const std::uint64_t end = std::min(offset_ + out_.size(), block * kBlock + bytes.size());
    std::memcpy(out_.data() + (begin - offset_), bytes.data() + (begin - block * kBlock),
                static_cast<std::size_t>(end - begin));
  }

  const CachedFile& file_;
  std::uint64_t offset_;
  std::span<std::byte> out_;
  std::uint64_t first_;
  std::uint64_t end_;
  std::vector<std::byte> front_;  // the first block, if `out` begins inside it
  std::vector<std::byte> back_;   // the last block, if `out` ends inside it
};

}  // namespace

Result<void> read_through(const CachedFile& file, std::uint64_t offset, std::span<std::byte> out,
                          const FetchParts& fetch) {
  if (out.empty()) return {};
  return Reading(file, offset, out).run(fetch);
}

void drop_blocks(const CachedFile& file, std::uint64_t offset, std::uint64_t nbytes) {
  if (nbytes == 0) return;
  for (std::uint64_t block = offset / kBlock; block <= (offset + nbytes - 1) / kBlock; ++block)
    file.cache.drop(file.key, block);
}

}  // namespace flatbed::remote
