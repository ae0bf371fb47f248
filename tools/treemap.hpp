// A squarified treemap: rectangles whose areas are in the proportion of their weights and that are
// as close to squares as a simple rule makes them (Bruls, Huizing and van Wijk, 2000). Pure
// functions, thread-safe.
#pragma once

#include <span>
#include <vector>

namespace flatbed::tool {

struct Rect {
  double x = 0;
  double y = 0;
  double width = 0;
  double height = 0;
  [[nodiscard]] double area() const noexcept { return width * height; }
};

// A rectangle for each weight, which together fill `where`. Weights are positive and descend; the
// largest one lies at the top left.
[[nodiscard]] std::vector<Rect> squarified(std::span<const double> weights, const Rect& where);

}  // namespace flatbed::tool
