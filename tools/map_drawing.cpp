#include "map_drawing.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "format_text.hpp"
#include "map_text.hpp"
#include "totals.hpp"

namespace flatbed::tool {
namespace {

constexpr double kColumnWidth = 6.75;  // of the labels' font, which is 11 pixels high
constexpr double kLineHeight = 13;
constexpr double kPadding = 5;      // at the left and right of a label
constexpr double kLinePadding = 3;  // above and below it
constexpr double kMinOutline = 10;  // the side of a module that gets one
constexpr double kMinStroke = 6;    // smaller tiles would be all border

std::string attributes(const Rect& rect) {
  return fmt::format("x=\"{:.7g}\" y=\"{:.7g}\" width=\"{:.7g}\" height=\"{:.7g}\"", rect.x, rect.y,
                     rect.width, rect.height);
}

// A shape may have any number of dimensions.
std::string form_text(const TensorInfo& tensor) { return shortened(tensor_text(tensor), 100); }

double shorter_side(const Rect& rect) { return std::min(rect.width, rect.height); }

class Drawer {
 public:
  explicit Drawer(const MapSubject& subject)
      : subject_(subject), tree_(subject.tree), layout_(subject.layout) {
    labelled_.resize(layout_.frames.size());
  }

  Drawing draw() {
    for (const MapTile& tile : layout_.tiles) draw_tile(tile);
    for (const MapFrame& frame : layout_.frames) draw_outline(frame);
    for (const MapTile& tile : layout_.tiles) label_tile(tile);
    // Inner modules first: an outer one gets a label only where nothing in it has one.
    for (std::size_t i = layout_.frames.size(); i-- > 1;) {
      if (!labelled_[i]) label_module(static_cast<std::uint32_t>(i));
    }
    return std::move(out_);
  }

 private:
  void draw_tile(const MapTile& tile) {
    const std::string_view small = shorter_side(tile.rect) < kMinStroke ? " s" : "";
    out_.elements +=
        fmt::format("<rect class=\"t {}{}\" {}><title>{}</title></rect>\n", colour_class(tile),
                    small, attributes(tile.rect), escaped_markup(hover_text(tile)));
  }

  void draw_outline(const MapFrame& frame) {
    if (frame.depth == 0 || shorter_side(frame.rect) < kMinOutline) return;
    const std::string level = frame.depth <= 2 ? fmt::format(" f{}", frame.depth) : "";
    out_.elements += fmt::format("<rect class=\"f{}\" {}/>\n", level, attributes(frame.rect));
  }

  // The class of the one group that all tensors of the tile belong to.
  std::string colour_class(const MapTile& tile) {
    std::optional<std::uint8_t> group;
    std::vector<std::uint32_t> pending = tile.members;
    while (!pending.empty()) {
      const ModuleNode& node = tree_.nodes[pending.back()];
      pending.pop_back();
      pending.insert(pending.end(), node.children.begin(), node.children.end());
      if (!node.tensor) continue;
      const std::uint8_t own = subject_.paint.of_tensor[*node.tensor];
      if (group.value_or(own) != own) {
        out_.mixed = true;
        return "cm";
      }
      group = own;
    }
    return fmt::format("c{}", group.value_or(0));
  }

  // The tensor that the tile is; nullptr if the tile stands for several.
  const TensorInfo* only(const MapTile& tile) const {
    if (tile.members.size() != 1 || !tree_.nodes[tile.members[0]].tensor) return nullptr;
    return &subject_.checkpoint.tensors()[*tree_.nodes[tile.members[0]].tensor];
  }

  ModuleNode sum(const MapTile& tile) const {
    ModuleNode total;
    for (const std::uint32_t member : tile.members) {
      const ModuleNode& node = tree_.nodes[member];
      total.tensors += node.tensors;
      add_up(total.parameters, node.parameters);
      add_up(total.nbytes, node.nbytes);
      total.weight += node.weight;
    }
    return total;
  }

  std::string amounts_text(const ModuleNode& node) const {
    return fmt::format("{} parameter{}\n{} ({} B), {:.3g} %", number_text(node.parameters),
                       node.parameters == 1 ? "" : "s", size_text(node.nbytes),
                       number_text(node.nbytes), 100 * node.weight / tree_.nodes[0].weight);
  }

  std::string more_text(const MapTile& tile, const ModuleNode& total) const {
    const bool all = tree_.nodes[layout_.frames[tile.frame].node].tensors == total.tensors;
    return all ? count_text(total.tensors, "tensor")
               : fmt::format("{} more", number_text(total.tensors));
  }

  std::string hover_text(const MapTile& tile) const {
    const TensorInfo* const tensor = only(tile);
    if (tensor == nullptr) {
      const ModuleNode total = sum(tile);
      const std::string_view module = tree_.nodes[layout_.frames[tile.frame].node].path;
      return fmt::format("{}{}\n{}", more_text(tile, total),
                         tile.frame == 0 ? "" : " in " + picture_text(module), amounts_text(total));
    }
    std::string text = fmt::format("{}\n{}\n{}", picture_text(tensor->name), form_text(*tensor),
                                   amounts_text(tree_.nodes[tile.members[0]]));
    const std::span<const FileInfo> files = subject_.checkpoint.files();
    if (files.size() > 1)
      text += "\n" + picture_text(files[tensor->where.file].path.filename().native());
    if (!subject_.compared.empty()) text += "\n" + change_text(*tensor);
    return text;
  }

  std::string change_text(const TensorInfo& tensor) const {
    const TensorDifference* const difference = subject_.paint.differences[tensor.index];
    if (difference == nullptr) return "equal";
    if (difference->change == TensorChange::added) return "added";
    if (difference->change == TensorChange::bytes) return "other bytes";
    return fmt::format("was {}", form_text(*difference->a));
  }

  static LabelRoom room(const Rect& rect) {
    const auto fit = [](double length, double each) {
      return static_cast<std::size_t>(std::max(0.0, length / each));
    };
    return {fit(rect.width - 2 * kPadding, kColumnWidth),
            fit(rect.height - 2 * kLinePadding, kLineHeight)};
  }

  // A tile that stands for several tensors bears the name of their module.
  void label_tile(const MapTile& tile) {
    const TensorInfo* const tensor = only(tile);
    const ModuleNode total = sum(tile);
    const bool is_rest = tensor == nullptr && tile.frame == 0;  // the whole has no name
    const std::string more = more_text(tile, total);
    const std::string note = tensor == nullptr && !is_rest ? more : size_text(total.nbytes);
    const std::string_view module = tree_.nodes[layout_.frames[tile.frame].node].path;
    const auto lines_in = [&](const LabelRoom& space) {
      if (!is_rest) return label_lines(tensor == nullptr ? module : tensor->name, space);
      const bool fits = space.lines != 0 && columns(more) <= space.columns;
      return fits ? std::vector{more} : std::vector<std::string>();
    };
    const Rect& rect = tile.rect;
    const Rect turned{0, 0, rect.height, rect.width};
    if (const std::vector<std::string> lines = lines_in(room(rect)); !lines.empty()) {
      write_lines(lines, note, rect);
    } else {
      // A narrow tile is written on from top to bottom.
      const std::vector<std::string> long_lines = lines_in(room(turned));
      if (long_lines.empty() || rect.height <= rect.width) return;
      out_.elements += fmt::format("<g transform=\"translate({:.6g} {:.6g}) rotate(90)\">\n",
                                   rect.x + rect.width, rect.y);
      write_lines(long_lines, note, turned);
      out_.elements += "</g>\n";
    }
    mark(tile.frame);
  }

  void label_module(std::uint32_t frame_index) {
    const MapFrame& frame = layout_.frames[frame_index];
    const ModuleNode& node = tree_.nodes[frame.node];
    const std::vector<std::string> lines = label_lines(node.path, room(frame.rect));
    if (lines.empty()) return;
    const auto longest = std::ranges::max(lines, {}, columns);
    const double height = static_cast<double>(lines.size()) * kLineHeight + 4;
    const double width = static_cast<double>(columns(longest)) * kColumnWidth + 6;
    out_.elements += fmt::format("<rect class=\"p\" {}/>\n",
                                 attributes({frame.rect.x + 2, frame.rect.y + 2, width, height}));
    write_lines(lines, "", frame.rect);
    mark(frame_index);
  }

  void mark(std::uint32_t frame) {
    while (!labelled_[frame]) {
      labelled_[frame] = true;
      frame = layout_.frames[frame].parent;
    }
  }

  // `note`, a line in a lighter colour, is left out where it does not fit.
  void write_lines(std::vector<std::string> lines, const std::string& note, const Rect& rect) {
    const LabelRoom space = room(rect);
    const bool has_note =
        !note.empty() && lines.size() < space.lines && columns(note) <= space.columns;
    if (has_note) lines.push_back(note);
    double y = rect.y + kLinePadding + 10;
    for (std::size_t i = 0; i < lines.size(); ++i) {
      const bool is_note = has_note && i + 1 == lines.size();
      out_.elements +=
          fmt::format("<text class=\"{}\" x=\"{:.6g}\" y=\"{:.6g}\">{}</text>\n",
                      is_note ? "z" : "l", rect.x + kPadding, y, escaped_markup(lines[i]));
      y += kLineHeight;
    }
  }

  const MapSubject& subject_;
  const ModuleTree& tree_;
  const MapLayout& layout_;
  std::vector<bool> labelled_;  // frames in which a label stands
  Drawing out_;
};

}  // namespace

Drawing map_drawing(const MapSubject& subject) { return Drawer(subject).draw(); }

}  // namespace flatbed::tool
