// The source of the bytes of a plan's items: their sizes, the best way to read them, and reading
// them piece by piece. The caller writes them. Thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "checkpoint/cast_sums.hpp"
#include "checkpoint/checkpoint_access.hpp"
#include "flatbed/cast.hpp"
#include "flatbed/result.hpp"
#include "flatbed/save.hpp"
#include "io/file_permissions.hpp"
#include "save/pieces.hpp"

namespace flatbed {

// The size of the item's source, which must fit dtype and shape. Errors: shape_mismatch,
// invalid_argument (no such tensor).
[[nodiscard]] Result<std::uint64_t> item_nbytes(const SaveItem& item);

// Whether every tensor that the plan's tree reaches is one of its items. Errors:
// tree_unknown_tensor.
[[nodiscard]] Result<void> check_tensor_numbers(const SavePlan& plan);

// Whether the item is a tensor that is computed when it is read.
[[nodiscard]] bool is_computed(const SaveItem& item);

// Reads an item's bytes from `offset` on. Those of an item that is not computed are not verified,
// because callers hash them anyway (check_item_chunk()), unless damaged ones can be read again.
[[nodiscard]] Result<void> read_item(const SaveItem& item, std::uint64_t offset,
                                     std::span<std::byte> out, const Reading& reading);

// Of an item that is a tensor of a file, and not computed: the file, and the same bytes once more,
// past every copy kept on the way. source_of() is null for other items. Errors: those of
// Container::reread().
[[nodiscard]] const ByteSource* source_of(const SaveItem& item);
[[nodiscard]] Result<void> reread_item(const SaveItem& item, std::uint64_t offset,
                                       std::span<std::byte> out);

// What writing the bytes of a plan found.
struct DataReport {
  CrcReport crc;
  CastReport casts;
  std::uint64_t chunks_reread = 0;
};

// The report of the casts of a plan, of which `written` items were read. `sums` counts by item.
[[nodiscard]] CastReport report_casts(const SavePlan& plan, std::span<const std::uint32_t> written,
                                      const CastSums& sums);

// Whether check_item_chunk() is to compare the chunks: options.verify, and the source has digests.
[[nodiscard]] bool is_verified(const SaveItem& item, const SaveOptions& options);
[[nodiscard]] Result<void> check_item_chunk(const SaveItem& item, std::uint64_t chunk,
                                            std::uint64_t digest);

// Finds a source that another program changed meanwhile: it may have been read half old, half new.
[[nodiscard]] Result<void> check_sources(const SavePlan& plan);

// What all files that the plan reads permit; their group, if it is one. nullopt: it reads no file.
[[nodiscard]] Result<std::optional<FilePermissions>> source_permissions(const SavePlan& plan);

// More threads would not stay within 64 MiB.
inline constexpr unsigned kMaxSaveThreads = 16;

// Items are processed in five groups: plain, plain and far, strided, strided and computed,
// deflated.
inline constexpr std::size_t kWays = 5;
[[nodiscard]] std::size_t way_of(const SaveItem& item);
// The places of the items in the new file, grouped by the way to read them; each group ascends.
using RunsByWay = std::array<std::vector<Run>, kWays>;
using PieceWork =
    std::function<Result<void>(const PieceQueue&, const Piece&, std::span<std::byte> buffer)>;

// Calls `work` for every piece of the runs, on options.threads threads. Memory: 48 MiB for items
// that are strided or deflated, 32 MiB for those of sources that prefer reads of megabytes,
// otherwise 1 MiB per thread. Errors: those of `work`, cancelled.
[[nodiscard]] Result<void> work_through(RunsByWay runs, const SaveOptions& options,
                                        const PieceWork& work);

// The same from the front to the back of the file: each thread takes the next piece of all.
struct WayRuns {
  std::size_t way = 0;    // of all `runs`
  std::vector<Run> runs;  // ascending, after those of the group before
};
[[nodiscard]] Result<void> work_in_order(std::vector<WayRuns> groups, const SaveOptions& options,
                                         const PieceWork& work);

}  // namespace flatbed
