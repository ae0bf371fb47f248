// read_through(): reads a range of a file from a cache, and what is not there from the server, in
// whole blocks, which are then kept. Thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "block_cache.hpp"
#include "flatbed/result.hpp"

namespace flatbed::remote {

struct CachedFile {
  BlockCache& cache;
  const std::string& key;
  std::uint64_t nbytes = 0;
};

// Fills all of `parts`, one after the other, from the server.
using FetchParts =
    std::function<Result<void>(std::uint64_t offset, std::vector<std::span<std::byte>> parts)>;

// Memory: two blocks beside `out`. Errors: those of `fetch`.
[[nodiscard]] Result<void> read_through(const CachedFile& file, std::uint64_t offset,
                                        std::span<std::byte> out, const FetchParts& fetch);

// Removes the blocks of a range, which arrived damaged.
void drop_blocks(const CachedFile& file, std::uint64_t offset, std::uint64_t nbytes);

}  // namespace flatbed::remote
