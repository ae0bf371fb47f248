#include "treemap.hpp"

#include <algorithm>
#include <numeric>

namespace flatbed::tool {
namespace {

// The areas of one row, which lies along the shorter side of what is still free.
struct Row {
  double sum = 0;
  double largest = 0;
  double smallest = 0;

  [[nodiscard]] Row with(double area) const {
    return {sum + area, largest == 0 ? area : largest, area};
  }
  // The worst ratio of long to short sides in the row.
  [[nodiscard]] double worst(double side) const {
    const double squared = side * side;
    return std::max(squared * largest / (sum * sum), sum * sum / (squared * smallest));
  }
};

// Takes a row from `free` and appends its rectangles.
void place(std::span<const double> weights, double scale, Rect& free, std::vector<Rect>& out) {
  const bool upright = free.width >= free.height;  // the row is a column at the left
  const double side = upright ? free.height : free.width;
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  const double depth = side == 0 ? 0 : sum * scale / side;
  double begin = 0;
  for (const double weight : weights) {
    const double length = side * (weight / sum);
    out.push_back(upright ? Rect{free.x, free.y + begin, depth, length}
                          : Rect{free.x + begin, free.y, length, depth});
    begin += length;
  }
  double& start = upright ? free.x : free.y;
  double& left = upright ? free.width : free.height;
  start += depth;
  left = std::max(0.0, left - depth);
}

}  // namespace

std::vector<Rect> squarified(std::span<const double> weights, const Rect& where) {
  std::vector<Rect> rects;
  rects.reserve(weights.size());
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  const double scale = total == 0 ? 0 : where.area() / total;
  Rect free = where;
  for (std::size_t begin = 0; begin < weights.size();) {
    const double side = std::min(free.width, free.height);
    Row row = Row().with(weights[begin] * scale);
    std::size_t end = begin + 1;
    for (; end < weights.size(); ++end) {
      const Row longer = row.with(weights[end] * scale);
      if (longer.worst(side) > row.worst(side)) break;
      row = longer;
    }
    place(weights.subspan(begin, end - begin), scale, free, rects);
    begin = end;
  }
  return rects;
}

}  // namespace flatbed::tool
