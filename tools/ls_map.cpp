#include "ls_map.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "format_text.hpp"
#include "module_tree.hpp"

namespace flatbed::tool {
namespace {

constexpr std::size_t kMaxOuter = 40;  // modules; the rest are summed up in one line
constexpr std::size_t kMaxInner = 8;
constexpr std::size_t kAmountColumns = 20;  // "  1023.9 KiB  100.0%" and the gaps
constexpr std::size_t kMinBar = 10;
constexpr std::size_t kMinName = 8;

struct Bar {
  std::string name;  // safe text, indented
  std::uint64_t nbytes = 0;
  double weight = 0;
};

// The rows of the children of a node; `most` of them, then one for the rest.
class Bars {
 public:
  explicit Bars(const ModuleTree& tree) : tree_(tree) {
    std::uint32_t top = 0;
    while (tree.nodes[top].children.size() == 1 && !tree.nodes[tree.nodes[top].children[0]].tensor)
      top = tree.nodes[top].children[0];
    add_children(top, 0);
  }

  [[nodiscard]] const std::vector<Bar>& rows() const { return rows_; }

 private:
  // Recurses one level deep.
  void add_children(std::uint32_t parent, std::size_t level) {
    const std::vector<std::uint32_t>& children = tree_.nodes[parent].children;
    const std::size_t most = level == 0 ? kMaxOuter : kMaxInner;
    const std::size_t shown = children.size() <= most + 1 ? children.size() : most;
    const std::string indent(2 * (level + 1), ' ');
    for (std::size_t i = 0; i < shown; ++i) {
      const ModuleNode& node = tree_.nodes[children[i]];
      const std::string_view name = level == 0 ? node.path : node.label;
      rows_.push_back({indent + safe_text(name), node.nbytes, node.weight});
      if (level == 0 && !node.tensor) add_children(children[i], 1);
    }
    if (shown == children.size()) return;
    Bar rest{fmt::format("{}{} more", indent, number_text(children.size() - shown)), 0, 0};
    for (std::size_t i = shown; i < children.size(); ++i)
      rest.weight += tree_.nodes[children[i]].weight;
    rest.nbytes = static_cast<std::uint64_t>(std::min(rest.weight, 1.8e19));
    rows_.push_back(std::move(rest));
  }

  const ModuleTree& tree_;
  std::vector<Bar> rows_;
};

// A bar in eighths of a column.
std::string bar_text(double share, std::size_t width) {
  constexpr std::array<std::string_view, 8> kParts{"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  const auto eighths = static_cast<std::size_t>(share * static_cast<double>(width) * 8 + 0.5);
  std::string text;
  for (std::size_t i = 0; i < eighths / 8; ++i) text += "█";
  return text.append(kParts[eighths % 8]);
}

}  // namespace

void write_bars(const Listing& listing, std::size_t width, Output& output) {
  const ModuleTree tree = module_tree(listing.checkpoint, MapLevel::module);
  const double total = tree.nodes[0].weight;
  if (total == 0) {
    output.write("  there are no bytes to show\n");
    return;
  }
  const Bars bars(tree);
  std::size_t name_columns = 0;
  for (const Bar& bar : bars.rows()) name_columns = std::max(name_columns, columns(bar.name));
  const std::size_t taken = kAmountColumns + kMinBar;
  name_columns = std::min(name_columns, std::max(kMinName, width - std::min(width, taken)));
  name_columns = std::min(name_columns, std::max(kMinName, width / 2));
  const std::size_t used = name_columns + kAmountColumns;
  const std::size_t bar_columns = width > used ? width - used : 0;
  for (const Bar& bar : bars.rows()) {
    const double share = bar.weight / total;
    std::string line = padded(shortened(bar.name, name_columns), name_columns);
    line += fmt::format("{:>11} {:>5.1f}%  {}", size_text(bar.nbytes), 100 * share,
                        bar_text(share, bar_columns));
    line.erase(line.find_last_not_of(' ') + 1);
    output.write(line + '\n');
  }
  if (tree.empty != 0)
    output.write(fmt::format("  {} of 0 bytes {} not shown\n", count_text(tree.empty, "tensor"),
                             verb_text(tree.empty, "is", "are")));
}

}  // namespace flatbed::tool
