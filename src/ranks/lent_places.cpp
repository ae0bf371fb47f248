#include "ranks/lent_places.hpp"

#include <algorithm>
#include <functional>

#include "base/checked.hpp"
#include "ranks/wire.hpp"

namespace flatbed {

namespace {

constexpr std::size_t kLeastNbytes = 3;  // of the text of a piece

std::uint64_t extent(const CopyPiece& piece) {
  return (piece.rows - 1) * piece.from_pitch + piece.nbytes;
}

// Of numbers of another process.
bool fits(const CopyPiece& piece, std::uint64_t room) {
  if (piece.nbytes == 0 || piece.rows == 0 || piece.nbytes > room) return false;
  return piece.rows == 1 || piece.from_pitch == 0 ||
         piece.rows - 1 <= (room - piece.nbytes) / piece.from_pitch;
}

}  // namespace

bool lie_in(std::span<const CopyPiece> pieces, std::span<const std::byte> memory) {
  const std::less_equal<const std::byte*> not_after;
  const std::byte* const end = memory.data() + memory.size();
  return std::ranges::all_of(pieces, [&](const CopyPiece& piece) {
    return not_after(memory.data(), piece.from) && not_after(piece.from, end) &&
           extent(piece) <= static_cast<std::uint64_t>(end - piece.from);
  });
}

std::vector<std::byte> encode_places(std::span<const CopyPiece> pieces,
                                     std::span<const std::byte> memory) {
  WireWriter out;
  out.number(pieces.size());
  for (const CopyPiece& piece : pieces) {
    out.number(static_cast<std::uint64_t>(piece.from - memory.data()));
    out.number(piece.nbytes);
    out.number(piece.rows);
    if (piece.rows > 1) out.number(piece.from_pitch);
  }
  return out.take();
}

Result<std::vector<CopyPiece>> decode_places(std::span<const std::byte> bytes,
                                             std::span<const std::byte> memory,
                                             std::span<std::byte> to) {
  WireReader in(bytes);
  std::vector<CopyPiece> pieces(in.count(kLeastNbytes));
  std::size_t at = 0;
  bool whole = true;
  for (CopyPiece& piece : pieces) {
    const std::uint64_t offset = in.number(memory.size());
    piece.from = memory.data() + offset;
    piece.nbytes = in.number();
    piece.rows = in.number();
    piece.from_pitch = piece.rows > 1 ? in.number() : 0;
    piece.to_pitch = piece.nbytes;
    piece.to = to.data() + at;
    whole = in.ok() && fits(piece, memory.size() - offset) &&
            piece.rows <= (to.size() - at) / piece.nbytes;
    if (!whole) break;
    at += static_cast<std::size_t>(piece.rows * piece.nbytes);
  }
  if (whole && in.at_end() && at == to.size()) return pieces;
  return Error{ErrorCode::collective_failed, "it lends bytes that are not in its shared memory"};
}

}  // namespace flatbed
