// What `flatbed match` prints of a report: a table for people, or JSON.
#pragma once

#include <cstddef>
#include <filesystem>
#include <vector>

#include "commands.hpp"
#include "flatbed/checkpoint.hpp"
#include "flatbed/match.hpp"
#include "json_out.hpp"
#include "output.hpp"

namespace flatbed::tool {

struct Comparison {
  Checkpoint checkpoint;  // with the names that were compared
  std::vector<Expected> expected;
  MatchReport report;
};

// On a terminal of `width` columns names are cut so that a row fits; 0 cuts nothing.
void write_match(const Comparison& comparison, const MatchCommandOptions& options,
                 std::size_t width, Output& output);

// The members of the JSON object between its beginning and its end.
void write_match_json(const Comparison& comparison, JsonWriter& json);

}  // namespace flatbed::tool
