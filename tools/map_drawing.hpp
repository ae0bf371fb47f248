// The tiles, outlines and labels of a map as SVG elements. Pure functions, thread-safe.
#pragma once

#include <string>
#include <string_view>

#include "map_picture.hpp"

namespace flatbed::tool {

struct Drawing {
  std::string elements;
  bool mixed = false;  // a tile holds tensors of several groups
};

// The classes of the elements, without the colours: .c0, .c1... for the groups, .cm for several.
inline constexpr std::string_view kDrawingRules =
    ".t{stroke:#fff;stroke-width:.8}.s{stroke-width:.2}"
    ".f{fill:none;stroke:#fff;stroke-width:1.4;pointer-events:none}"
    ".f1{stroke-width:4}.f2{stroke-width:2.4}"
    ".l{font-size:11px;pointer-events:none}.z{font-size:11px;fill-opacity:.65;pointer-events:none}"
    ".p{fill:#fff;fill-opacity:.82;pointer-events:none}";

[[nodiscard]] Drawing map_drawing(const MapSubject& subject);

}  // namespace flatbed::tool
