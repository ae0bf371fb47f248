#include "load/row_gather.hpp"

#include <algorithm>
#include <cstring>

namespace flatbed {

namespace {

// Whether the rows arrive one after the other and are worth to be moved by the processor.
bool is_narrow(const CopyPiece& piece) {
  return piece.nbytes < kNarrowNbytes && (piece.rows == 1 || piece.to_pitch == piece.nbytes);
}

const std::byte* source_end(const CopyPiece& piece) {
  return piece.from + (piece.rows - 1) * (piece.rows == 1 ? 0 : piece.from_pitch) + piece.nbytes;
}

// Whether a piece goes on where the one before it ends, and lies behind it.
bool follows(const CopyPiece& piece, const CopyPiece& before) {
  return before.to + before.rows * before.nbytes == piece.to && source_end(before) <= piece.from;
}

// Moves all rows to `to`, which may lie before them in the same memory. Returns the end.
std::byte* move_rows(std::span<const CopyPiece> pieces, std::byte* to) {
  for (const CopyPiece& piece : pieces) {
    for (std::uint64_t row = 0; row < piece.rows; ++row) {
      const std::byte* const from = piece.from + row * piece.from_pitch;
      if (from != to) std::memmove(to, from, static_cast<std::size_t>(piece.nbytes));
      to += piece.nbytes;
    }
  }
  return to;
}

}  // namespace

void RowGather::find_extents(const std::byte* slot, std::span<std::vector<CopyPiece>> pieces) {
  extents_.clear();
  bool any_strip = false;
  for (std::uint32_t device = 0; device < pieces.size(); ++device) {
    const std::vector<CopyPiece>& list = pieces[device];
    for (std::uint32_t i = 0; i < list.size();) {
      const std::uint32_t first = i;
      std::uint64_t rows = list[i].rows;
      std::uint64_t nbytes = list[i].rows * list[i].nbytes;
      const bool narrow = device != 0 && is_narrow(list[i]);
      while (++i < list.size() && narrow && is_narrow(list[i]) && follows(list[i], list[i - 1])) {
        rows += list[i].rows;
        nbytes += list[i].rows * list[i].nbytes;
      }
      const bool strip = narrow && rows > 1;
      any_strip = any_strip || strip;
      extents_.push_back({.begin = static_cast<std::uint64_t>(list[first].from - slot),
                          .end = static_cast<std::uint64_t>(source_end(list[i - 1]) - slot),
                          .device = device,
                          .first = first,
                          .count = strip ? i - first : 0,
                          .nbytes = nbytes});
    }
  }
  if (!any_strip) extents_.clear();
}

void RowGather::gather(std::byte* slot, std::span<std::vector<CopyPiece>> pieces) {
  find_extents(slot, pieces);
  std::ranges::sort(extents_, {}, &Extent::begin);
  // Extents that overlap, directly or by way of others, are looked at together.
  for (std::size_t first = 0; first < extents_.size();) {
    std::uint64_t end = extents_[first].end;
    std::uint64_t nbytes = extents_[first].nbytes;
    bool all_strips = extents_[first].count != 0;
    std::size_t last = first + 1;
    for (; last < extents_.size() && extents_[last].begin < end; ++last) {
      end = std::max(end, extents_[last].end);
      nbytes += extents_[last].nbytes;
      all_strips = all_strips && extents_[last].count != 0;
    }
    // More bytes than there are means that some are copied twice.
    if (all_strips && nbytes <= end - extents_[first].begin)
      gather_together(slot, pieces, std::span(extents_).subspan(first, last - first));
    first = last;
  }
  if (extents_.empty()) return;
  for (std::vector<CopyPiece>& list : pieces)
    std::erase_if(list, [](const CopyPiece& piece) { return piece.rows == 0; });
}

// Leaves the strips as they are if there is no memory for them.
void RowGather::gather_together(std::byte* slot, std::span<std::vector<CopyPiece>> pieces,
                                std::span<const Extent> strips) {
  std::byte* const begin = slot + strips.front().begin;
  const auto rows_of = [&](const Extent& strip) {
    return std::span(pieces[strip.device]).subspan(strip.first, strip.count);
  };
  if (strips.size() == 1) {
    move_rows(rows_of(strips.front()), begin);
  } else {
    std::uint64_t nbytes = 0;
    for (const Extent& strip : strips) nbytes += strip.nbytes;
    if (nbytes > buffer_nbytes_) {
      buffer_ = try_allocate_large(static_cast<std::size_t>(nbytes));
      buffer_nbytes_ = buffer_ ? nbytes : 0;
    }
    if (!buffer_) return;
    std::byte* to = buffer_.get();
    for (const Extent& strip : strips) to = move_rows(rows_of(strip), to);
    std::memcpy(begin, buffer_.get(), static_cast<std::size_t>(nbytes));
  }
  std::byte* from = begin;
  for (const Extent& strip : strips) {
    const std::span<CopyPiece> list = rows_of(strip);
    list.front() = {.from = from, .to = list.front().to, .nbytes = strip.nbytes};
    for (CopyPiece& piece : list.subspan(1)) piece.rows = 0;
    from += strip.nbytes;
  }
}

}  // namespace flatbed
