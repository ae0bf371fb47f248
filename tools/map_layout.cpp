#include "map_layout.hpp"

namespace flatbed::tool {
namespace {

constexpr double kMinArea = 4;  // square pixels: 2 by 2

class Layouter {
 public:
  Layouter(const ModuleTree& tree, double min_area) : tree_(tree), min_area_(min_area) {}

  MapLayout lay_out(const Rect& where) {
    if (tree_.nodes[0].weight == 0) return {};
    pixels_per_byte_ = where.area() / tree_.nodes[0].weight;
    out_.frames.push_back({where, 0, 0, 0});
    // The list grows while it is read: modules are appended behind the frames that they lie in.
    for (std::size_t i = 0; i < out_.frames.size(); ++i) divide(static_cast<std::uint32_t>(i));
    return std::move(out_);
  }

 private:
  void divide(std::uint32_t frame_index) {
    const MapFrame frame = out_.frames[frame_index];
    std::vector<std::uint32_t> shown;
    MapTile merged{{}, frame_index, {}};
    std::vector<double> weights;
    double merged_weight = 0;
    for (const std::uint32_t child : tree_.nodes[frame.node].children) {
      const double weight = tree_.nodes[child].weight;
      if (weight * pixels_per_byte_ < min_area_) {
        merged.members.push_back(child);
        merged_weight += weight;
      } else {
        shown.push_back(child);
        weights.push_back(weight);
      }
    }
    // The merged tile comes where its weight places it: weights must descend.
    std::size_t merged_at = shown.size();
    if (!merged.members.empty()) {
      while (merged_at != 0 && weights[merged_at - 1] < merged_weight) --merged_at;
      weights.insert(weights.begin() + static_cast<std::ptrdiff_t>(merged_at), merged_weight);
    }
    const std::vector<Rect> rects = squarified(weights, frame.rect);
    for (std::size_t i = 0; i < rects.size(); ++i) {
      const bool is_merged = !merged.members.empty() && i == merged_at;
      if (is_merged) {
        merged.rect = rects[i];
      } else {
        const std::size_t place = i > merged_at && !merged.members.empty() ? i - 1 : i;
        add(shown[place], rects[i], frame_index);
      }
    }
    if (!merged.members.empty()) out_.tiles.push_back(std::move(merged));
  }

  void add(std::uint32_t node, const Rect& rect, std::uint32_t frame) {
    if (tree_.nodes[node].tensor) {
      out_.tiles.push_back({rect, frame, {node}});
    } else {
      out_.frames.push_back({rect, node, frame, out_.frames[frame].depth + 1});
    }
  }

  const ModuleTree& tree_;
  double min_area_;
  double pixels_per_byte_ = 0;
  MapLayout out_;
};

}  // namespace

MapLayout map_layout(const ModuleTree& tree, const Rect& where) {
  double min_area = kMinArea;
  while (true) {
    MapLayout layout = Layouter(tree, min_area).lay_out(where);
    if (layout.tiles.size() <= kMaxTiles || min_area > where.area()) return layout;
    min_area *= 2;
  }
}

}  // namespace flatbed::tool
