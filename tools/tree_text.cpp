#include "tree_text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "value_text.hpp"

namespace flatbed::tool {
namespace {

constexpr std::size_t kFoldAbove = 24;   // a container with more entries is folded ...
constexpr std::size_t kFoldedTo = 16;    // ... to this many
constexpr std::size_t kMaxIndent = 100;  // levels; deeper entries are left out

// A line to come: an entry, or (without a value) a remark in its place.
struct Line {
  std::string label;
  std::optional<Value> value;
  std::size_t depth = 0;
};

bool shareable(Kind kind) {
  return kind == Kind::list || kind == Kind::tuple || kind == Kind::dict || kind == Kind::object ||
         kind == Kind::tensor || kind == Kind::array;
}

// The ids of nodes that are reached more than once.
class SharedNodes {
 public:
  explicit SharedNodes(Value root) {
    std::vector<Value> pending{root};
    std::map<NodeId, bool> reached;
    while (!pending.empty()) {
      const Value value = pending.back();
      pending.pop_back();
      if (!shareable(value.kind())) continue;
      const auto [place, first] = reached.emplace(value.id(), false);
      if (!first) {
        numbers_.emplace(value.id(), 0);
        continue;
      }
      for (Entry& entry : entries(value)) pending.push_back(entry.value);
    }
  }

  [[nodiscard]] bool contains(NodeId id) const { return numbers_.contains(id); }

  // The number written for this node, and whether it was given just now.
  std::pair<std::uint32_t, bool> number(NodeId id) {
    std::uint32_t& number = numbers_.at(id);
    if (number != 0) return {number, false};
    number = ++last_;
    return {number, true};
  }

 private:
  std::map<NodeId, std::uint32_t> numbers_;
  std::uint32_t last_ = 0;
};

class TreeWriter {
 public:
  TreeWriter(const Checkpoint& checkpoint, Value root, Fold fold, Output& output)
      : shared_(root), fold_(fold), output_(output) {
    context_ = {checkpoint.tensors(), [this](NodeId id) { return shared_.contains(id); }};
    lines_.push_back({"", root, 0});
  }

  TreeWriter(const TreeWriter&) = delete;
  TreeWriter& operator=(const TreeWriter&) = delete;

  void write() {
    while (!lines_.empty() && output_.wanted()) {
      const Line line = std::move(lines_.back());
      lines_.pop_back();
      write_line(line);
    }
  }

 private:
  void write_line(const Line& line) {
    std::string text(line.depth * 2, ' ');
    text += line.label;
    if (line.value) {
      if (!line.label.empty()) text += ": ";
      append_value(text, *line.value, line.depth);
    }
    output_.write(text + "\n");
  }

  void append_value(std::string& text, Value value, std::size_t depth) {
    if (shareable(value.kind()) && shared_.contains(value.id())) {
      const auto [number, first] = shared_.number(value.id());
      if (!first) {
        text += fmt::format("-> #{}", number);
        return;
      }
      text += fmt::format("#{} ", number);
    }
    if (const std::optional<std::string> inline_form = inline_text(value, context_)) {
      text += *inline_form;
      return;
    }
    text += head_text(value);
    push_entries(value, depth + 1);
  }

  // The entries come off the stack in order, so they go on in reverse.
  void push_entries(Value value, std::size_t depth) {
    std::vector<Entry> all = entries(value);
    if (depth > kMaxIndent) {
      lines_.push_back({fmt::format("… {} more, nested too deep to show", all.size()), {}, depth});
      return;
    }
    if (fold_ == Fold::yes && all.size() > kFoldAbove) {
      lines_.push_back({fmt::format("… {} more", all.size() - kFoldedTo), {}, depth});
      all.resize(kFoldedTo, Entry{"", value});
    }
    for (auto entry = all.rbegin(); entry != all.rend(); ++entry) {
      lines_.push_back({std::move(entry->label), entry->value, depth});
    }
  }

  SharedNodes shared_;
  TextContext context_;
  Fold fold_;
  Output& output_;
  std::vector<Line> lines_;
};

}  // namespace

Result<void> write_tree(const Checkpoint& checkpoint, Fold fold, Output& output) {
  FLATBED_ASSIGN(const Value root, checkpoint.tree());
  TreeWriter(checkpoint, root, fold, output).write();
  return {};
}

}  // namespace flatbed::tool
