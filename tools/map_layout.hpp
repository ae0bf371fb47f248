// MapLayout: where the tensors and modules of a checkpoint lie in the picture of `flatbed map`.
// What would be too small to see becomes one tile of its module. Refers to nodes of the ModuleTree
// by their indexes. Immutable after it was made.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "module_tree.hpp"
#include "treemap.hpp"

namespace flatbed::tool {

// The outline of a module or, as the first frame, of the whole.
struct MapFrame {
  Rect rect;
  std::uint32_t node = 0;
  std::uint32_t parent = 0;  // a frame; of the first one: itself
  std::uint32_t depth = 0;
};

struct MapTile {
  Rect rect;
  std::uint32_t frame = 0;             // in which it lies
  std::vector<std::uint32_t> members;  // nodes: one tensor, or everything that was merged
};

struct MapLayout {
  std::vector<MapFrame> frames;  // parents before what lies in them
  std::vector<MapTile> tiles;
};

inline constexpr std::size_t kMaxTiles = 30'000;  // about 8 MB of text

// Fills `where` with tiles whose areas are in the proportion of their bytes.
[[nodiscard]] MapLayout map_layout(const ModuleTree& tree, const Rect& where);

}  // namespace flatbed::tool
