// Where the bytes of a plan's items come from: their sizes, how they are had best, and reading them
// piece by piece. What is written of them, and where, is the caller's. Thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "flatbed/result.hpp"
#include "flatbed/save.hpp"
#include "save/pieces.hpp"

namespace flatbed {

// What the item's source has, once it fits dtype and shape. Errors: shape_mismatch,
// invalid_argument (no such tensor).
[[nodiscard]] Result<std::uint64_t> item_nbytes(const SaveItem& item);

// Bytes of an item from `offset` on, not verified.
[[nodiscard]] Result<void> read_item(const SaveItem& item, std::uint64_t offset,
                                     std::span<std::byte> out);

// Whether the source has digests, against which check_item_chunk() holds that of a chunk.
[[nodiscard]] bool has_digests(const SaveItem& item);
[[nodiscard]] Result<void> check_item_chunk(const SaveItem& item, std::uint64_t chunk,
                                            std::uint64_t digest);

// A source that another program wrote to meanwhile may have been read half old, half new.
[[nodiscard]] Result<void> check_sources(const SavePlan& plan);

// More threads would not stay within 64 MiB.
inline constexpr unsigned kMaxSaveThreads = 16;

// Items are worked through in three groups: plain, strided, deflated.
inline constexpr std::size_t kWays = 3;
[[nodiscard]] std::size_t way_of(const SaveItem& item);
// Where the items lie in the new file, by their ways; each ascends.
using RunsByWay = std::array<std::vector<Run>, kWays>;
using PieceWork =
    std::function<Result<void>(const PieceQueue&, const Piece&, std::span<std::byte> buffer)>;

// Calls `work` for every piece of the runs, from options.threads threads. Memory: 48 MiB for items
// that are strided or deflated, else 1 MiB per thread. Errors: those of `work`, cancelled.
[[nodiscard]] Result<void> work_through(RunsByWay runs, const SaveOptions& options,
                                        const PieceWork& work);

}  // namespace flatbed
