// Where bytes lie in memory that ranks of one node share: what a rank lends, as a message says it.
//
//   number of pieces, and of each   its offset in the memory
//                                   the size of a row
//                                   the number of rows
//                                   the distance of two rows, if there are several
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "flatbed/device.hpp"
#include "flatbed/result.hpp"

namespace flatbed {

// Whether all bytes of the pieces lie in `memory`.
[[nodiscard]] bool lie_in(std::span<const CopyPiece> pieces, std::span<const std::byte> memory);

// Of pieces that lie in `memory`.
[[nodiscard]] std::vector<std::byte> encode_places(std::span<const CopyPiece> pieces,
                                                   std::span<const std::byte> memory);

// Pieces that copy what another rank has lent, `nbytes` in all, to `to` on, one after the other.
// Errors: collective_failed (a malformed message, or other bytes than `memory` has).
[[nodiscard]] Result<std::vector<CopyPiece>> decode_places(std::span<const std::byte> bytes,
                                                           std::span<const std::byte> memory,
                                                           std::span<std::byte> to);

}  // namespace flatbed
