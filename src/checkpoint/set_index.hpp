// The index of a sharded set, parsed (spec H1, H2). Pure but for reading the file; thread-safe.
//
//   {"metadata": {"total_size": 123, "flatbed.shards": "1/<16 hex digits per file>"},
//    "weight_map": {"<tensor>": "<file>", ...}}
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.hpp"
#include "flatbed/byte_source.hpp"
#include "io/name_index.hpp"

namespace flatbed {

inline constexpr std::size_t kMaxShards = 10'000;
inline constexpr std::size_t kMaxSealedShards = 6'000;   // spec H4
inline constexpr std::uint64_t kMaxIndex = 250'000'000;  // bytes of the index

struct SetIndex {
  JsonDocument json;                    // owns the texts, and has nothing else left
  std::vector<std::string_view> names;  // of all tensors, in the order of the index
  NameIndex numbers;                    // into names
  // The tensors that each file holds, by number. Files are relative to the index, without "."
  // components, in byte order.
  std::map<std::string, std::vector<std::uint32_t>> shards;
  std::optional<std::string_view> contents;  // metadata["flatbed.shards"]
};

// `name` is the file's name, without folders: of pickles only one that says so is an index. Errors:
// index_malformed, index_duplicate_name, shard_name_refused, limit_exceeded.
[[nodiscard]] Result<SetIndex> read_set_index(const ByteSource& file, std::string_view name);

}  // namespace flatbed
