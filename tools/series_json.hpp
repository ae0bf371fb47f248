// What `flatbed series --json` prints: the members of its object between "action" and the end.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "flatbed/series.hpp"
#include "json_out.hpp"
#include "series_text.hpp"

namespace flatbed::tool {

// An object, or null.
void write_checkpoint(std::string_view key, const SeriesEntry* entry, JsonWriter& json);
void write_checkpoints(std::string_view key, const std::vector<SeriesEntry>& entries,
                       JsonWriter& json);
void write_table(const SeriesTable& table, JsonWriter& json);
void write_verified(const SeriesVerify& verified, JsonWriter& json);
void write_notes(const std::vector<std::string>& notes, JsonWriter& json);

}  // namespace flatbed::tool
