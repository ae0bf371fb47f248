// The legend of a map as tables of text: what the colours mean, the shards of a set, what another
// checkpoint has and this one does not. Pure functions, thread-safe.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "map_paint.hpp"

namespace flatbed::tool {

struct LegendRow {
  std::string_view colour;  // empty: the row has none
  std::vector<std::string> cells;
};

struct LegendTable {
  std::vector<std::string> heads;
  std::vector<LegendRow> rows;
  std::string rest;  // what a long table leaves out; empty: nothing
};

// `mixed`: some tiles have the colour of several groups.
[[nodiscard]] std::vector<LegendTable> map_legend(const Checkpoint& checkpoint,
                                                  const MapPaint& paint, bool mixed);

}  // namespace flatbed::tool
