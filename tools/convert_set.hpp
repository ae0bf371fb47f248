// flatbed convert --max-shard-size: outputs that are sharded sets.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "commands.hpp"
#include "convert_jobs.hpp"
#include "convert_one.hpp"
#include "flatbed/result.hpp"
#include "flatbed/save_plan.hpp"
#include "flatbed/save_set.hpp"

namespace flatbed::tool {

// "5GB" as the Hub's library reads it: KB, MB, GB and TB are powers of 1000 in letters of either
// case, and the number may have a fraction. Also K, M, G and T, which are the same, and KiB to TiB,
// powers of 1024; without a unit, bytes. Errors: invalid_argument.
[[nodiscard]] Result<std::uint64_t> parse_shard_size(std::string_view word);

[[nodiscard]] SaveSetOptions save_set_options(const ConvertJob& job, const ConvertOptions& options,
                                              const ConvertWatch& watch);

// Puts the shards into the outcome before they are written.
void list_shards(const ConvertJob& job, const std::vector<PlannedShard>& shards, Outcome& outcome);

// Adds to them what the report says.
void note_saved(SaveSetReport report, const ConvertOptions& options, Outcome& outcome);

// Writes job.output, a folder, unless it holds the set already.
[[nodiscard]] Result<void> write_set(const ConvertJob& job, const SavePlan& plan,
                                     const ConvertOptions& options, const ConvertWatch& watch,
                                     Outcome& outcome);

}  // namespace flatbed::tool
