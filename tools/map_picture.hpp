// The picture of `flatbed map` as the text of one file without scripts and without resources from
// elsewhere: SVG, or HTML around the same drawing. Pure functions, thread-safe.
#pragma once

#include <filesystem>
#include <string>

#include "map_layout.hpp"
#include "map_paint.hpp"
#include "module_tree.hpp"

namespace flatbed::tool {

inline constexpr Rect kMapArea{0, 0, 1200, 750};  // pixels

enum class PictureForm : std::uint8_t { svg, html };

// Borrows everything.
struct MapSubject {
  const std::filesystem::path& path;
  const Checkpoint& checkpoint;
  const ModuleTree& tree;
  const MapLayout& layout;  // within kMapArea
  const MapPaint& paint;
  std::string compared;  // the path of what the colours compare with; empty: they are dtypes
};

[[nodiscard]] std::string map_picture(const MapSubject& subject, PictureForm form);

}  // namespace flatbed::tool
