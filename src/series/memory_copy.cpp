#include "series/memory_copy.hpp"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstring>
#include <span>
#include <variant>
#include <vector>

#include "base/checked.hpp"
#include "flatbed/available_memory.hpp"
#include "io/thread_pool.hpp"

namespace flatbed {

namespace {

using Bytes = std::span<const std::byte>;

constexpr std::uint64_t kAlignment = 64;

constexpr std::size_t kPieceNbytes = 8 << 20;
constexpr std::size_t kWorthThreads = 8;  // pieces

struct Piece {
  std::byte* to = nullptr;
  Bytes from;
};

void copy_pieces(std::span<const Piece> pieces, unsigned threads) {
  std::atomic<std::size_t> next = 0;
  const auto work = [&](unsigned) -> Result<void> {
    for (std::size_t i = next++; i < pieces.size(); i = next++)
      std::memcpy(pieces[i].to, pieces[i].from.data(), pieces[i].from.size());
    return {};
  };
  static_cast<void>(run_parallel(pieces.size() < kWorthThreads ? 1 : threads, work));
}

// The bytes of all items in memory, each rounded up to the alignment. nullopt: more than 2^64.
std::optional<std::uint64_t> memory_nbytes(const SavePlan& plan) {
  std::uint64_t nbytes = 0;
  for (const SaveItem& item : plan.items) {
    const Bytes* const bytes = std::get_if<Bytes>(&item.from);
    if (bytes == nullptr) continue;
    const std::optional<std::uint64_t> end = checked_add(nbytes, bytes->size());
    if (!end || *end > UINT64_MAX - kAlignment) return std::nullopt;
    nbytes = (*end + kAlignment - 1) / kAlignment * kAlignment;
  }
  return nbytes;
}

}  // namespace

std::optional<SavePlan> MemoryCopy::copy(const SavePlan& plan, unsigned threads) {
  const std::optional<std::uint64_t> nbytes = memory_nbytes(plan);
  if (!nbytes || !reserve(*nbytes)) return std::nullopt;
  SavePlan copied = plan;
  std::vector<Piece> pieces;
  std::byte* at = block_.get();
  for (SaveItem& item : copied.items) {
    Bytes* const bytes = std::get_if<Bytes>(&item.from);
    if (bytes == nullptr || bytes->empty()) continue;
    for (std::size_t skip = 0; skip < bytes->size(); skip += kPieceNbytes)
      pieces.push_back(
          {at + skip, bytes->subspan(skip).first(std::min(kPieceNbytes, bytes->size() - skip))});
    *bytes = {at, bytes->size()};
    at += (bytes->size() + kAlignment - 1) / kAlignment * kAlignment;
  }
  copy_pieces(pieces, threads);
  return copied;
}

bool MemoryCopy::reserve(std::uint64_t nbytes) {
  if (nbytes <= capacity_) return true;
  // First, because both may not fit at once.
  block_.reset();
  capacity_ = 0;
  // The system promises more memory than there is and ends processes later, so it is asked what
  // there is.
  const std::optional<std::uint64_t> available = available_memory();
  if (nbytes > SIZE_MAX / 2 || (available && nbytes > *available)) return false;
  block_ = try_allocate_large(static_cast<std::size_t>(nbytes));
  if (block_ == nullptr) return false;
  capacity_ = nbytes;
  return true;
}

}  // namespace flatbed
