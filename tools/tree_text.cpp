#include "tree_text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "format_text.hpp"
#include "picks.hpp"
#include "tree_fold.hpp"
#include "value_text.hpp"

namespace flatbed::tool {
namespace {

constexpr std::size_t kFoldAbove = 24;   // a container with more entries is folded ...
constexpr std::size_t kFoldedTo = 16;    // ... to this many
constexpr std::size_t kMaxIndent = 100;  // levels; deeper entries are omitted
constexpr std::size_t kPageLines = 100;  // of a folded tree
// Limits the depth of a folded tree: the deepest tree that still fits on a page is shown.
constexpr std::size_t kLevels[] = {kMaxIndent, 12, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1};

// A pending line: an entry, or (without a value) a remark in its place.
struct Line {
  std::string label;
  std::optional<Value> value;
  std::size_t depth = 0;
  std::uint64_t count = 1;  // number of entries like this one
  bool equal = true;
  bool in_module = false;
};

bool shareable(Kind kind) {
  return kind == Kind::list || kind == Kind::tuple || kind == Kind::dict || kind == Kind::object ||
         kind == Kind::tensor || kind == Kind::array;
}

// A container of numbers, texts and the like only: a list of a million numbers has no node that
// could be shared.
bool holds_leaves(Value value) {
  return value.kind() != Kind::object && std::ranges::none_of(value.children(), [&](NodeId id) {
           return shareable(value.node(id).kind());
         });
}

// The ids of nodes that are reached more than once.
class SharedNodes {
 public:
  template <typename EntriesOf>
  SharedNodes(Value root, EntriesOf entries_of) {
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
      if (holds_leaves(value)) continue;
      for (Entry& entry : entries_of(value)) pending.push_back(entry.value);
    }
  }

  [[nodiscard]] bool contains(NodeId id) const { return numbers_.contains(id); }

  // The number of a shared node, and whether it was just assigned.
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

// The parts that can be selected, and those that are modules.
struct Picks {
  explicit Picks(const Checkpoint& checkpoint) {
    for (Pick& pick : find_picks(checkpoint)) by_node.emplace(pick.node, std::move(pick));
  }

  [[nodiscard]] std::unordered_set<NodeId> nodes() const {
    std::unordered_set<NodeId> out;
    for (const auto& [node, pick] : by_node) out.insert(node);
    return out;
  }

  // ", whole model, 14 tensors: --select ema", after what the node is.
  [[nodiscard]] std::string mark(NodeId node) const {
    const auto found = by_node.find(node);
    if (found == by_node.end()) return "";
    const Pick& pick = found->second;
    return fmt::format(
        ", {}, {}: {}", pick.kind == "state dict" ? "state dict" : "whole model",
        count_text(pick.tensors, "tensor"),
        pick.path.empty() ? "convert keeps its state dict" : "--select " + safe_text(pick.path));
  }

  std::map<NodeId, Pick> by_node;
};

class TreeWriter {
 public:
  // `picks` is set for a folded tree; if it is null, every entry is shown as it is.
  TreeWriter(const Checkpoint& checkpoint, Value root, const Picks* picks, Output& output)
      : root_(root),
        context_{checkpoint.tensors(), [this](NodeId id) { return shared_.contains(id); },
                 picks != nullptr},
        picks_(picks),
        folder_(context_, picks != nullptr ? picks->nodes() : std::unordered_set<NodeId>{}),
        shared_(root,
                [this](Value value) {
                  return picks_ != nullptr ? folder_.entries_of(value) : entries(value);
                }),
        output_(output) {}

  TreeWriter(const TreeWriter&) = delete;
  TreeWriter& operator=(const TreeWriter&) = delete;

  void write() {
    if (picks_ == nullptr) {
      write_levels(kMaxIndent);
      return;
    }
    const SharedNodes fresh = shared_;
    for (const std::size_t levels : kLevels) {
      page_.clear();
      left_out_ = folder_.left_out();
      shared_ = fresh;
      if (write_levels(levels)) break;
    }
    for (const std::string& line : page_) output_.write(line);
    if (left_out_) output_.write("(folded: --all shows every entry)\n");
  }

 private:
  // Returns false if the lines do not fit on a page.
  bool write_levels(std::size_t levels) {
    levels_ = levels;
    lines_.assign(1, {"", root_, 0});
    while (!lines_.empty() && output_.wanted()) {
      const Line line = std::move(lines_.back());
      lines_.pop_back();
      std::string text = line_text(line) + "\n";
      if (picks_ == nullptr) {
        output_.write(text);
      } else if (page_.size() < kPageLines || levels == 1) {
        page_.push_back(std::move(text));
      } else {
        return false;
      }
    }
    return true;
  }

  std::string line_text(const Line& line) {
    std::string text(line.depth * 2, ' ');
    text += line.label;
    if (!line.value) return text;
    if (!line.label.empty()) text += ": ";
    if (line.count > 1) {
      left_out_ = true;
      text += fmt::format("{} × {}", number_text(line.count), line.equal ? "" : "like ");
    }
    append_value(text, line);
    return text;
  }

  void append_value(std::string& text, const Line& line) {
    const Value value = *line.value;
    if (line.count == 1 && shareable(value.kind()) && shared_.contains(value.id())) {
      const auto [number, first] = shared_.number(value.id());
      if (!first) {
        text += fmt::format("-> #{}", number);
        return;
      }
      text += fmt::format("#{} ", number);
    }
    const std::optional<std::string> module = picks_ ? module_name(value) : std::nullopt;
    const std::optional<std::string> inline_form =
        module ? std::nullopt : inline_text(value, context_);
    if (inline_form) {
      text += line.in_module ? without_parameter(*inline_form) : *inline_form;
    } else {
      text += module ? short_class(*module) : head_text(value);
    }
    if (picks_ != nullptr) text += picks_->mark(value.id());
    left_out_ = left_out_ || module.has_value();
    if (!inline_form) push_entries(text, value, line.depth + 1);
  }

  // Torch's own classes are known by name, and nearly every tensor in a module is a parameter.
  static std::string short_class(const std::string& name) {
    return name.starts_with("torch.nn.") ? name.substr(name.rfind('.') + 1) : name;
  }
  static std::string without_parameter(std::string text) {
    constexpr std::string_view kWords = " parameter requires_grad";
    if (const std::size_t at = text.find(kWords); at != std::string::npos)
      text.erase(at, kWords.size());
    return text;
  }

  // Entries come off the stack in order, so they are pushed in reverse.
  void push_entries(std::string& text, Value value, std::size_t depth) {
    std::vector<FoldedEntry> all;
    if (picks_ != nullptr) {
      all = folder_.fold(value);
    } else {
      for (Entry& entry : entries(value)) all.push_back({std::move(entry.label), entry.value});
    }
    if (depth > levels_ && levels_ == kMaxIndent) {
      lines_.push_back(
          {fmt::format("… {} more, nested too deeply to show", all.size()), {}, depth});
      return;
    }
    if (depth > levels_) {
      if (!all.empty()) text += " …";
      left_out_ = true;
      return;
    }
    if (picks_ != nullptr && all.size() > kFoldAbove) {
      lines_.push_back({fmt::format("… {} more", all.size() - kFoldedTo), {}, depth});
      all.resize(kFoldedTo, FoldedEntry{"", value});
    }
    for (auto entry = all.rbegin(); entry != all.rend(); ++entry) {
      lines_.push_back({std::move(entry->label), entry->value, depth, entry->count, entry->equal,
                        entry->in_module});
    }
  }

  Value root_;
  TextContext context_;
  const Picks* picks_;
  TreeFolder folder_;
  SharedNodes shared_;
  Output& output_;
  std::size_t levels_ = kMaxIndent;
  bool left_out_ = false;  // then --all shows more
  std::vector<Line> lines_;
  std::vector<std::string> page_;
};

}  // namespace

Result<void> write_tree(const Checkpoint& checkpoint, Fold fold, Output& output) {
  FLATBED_ASSIGN(const Value root, checkpoint.tree());
  if (fold == Fold::no) {
    TreeWriter(checkpoint, root, nullptr, output).write();
    return {};
  }
  const Picks picks(checkpoint);
  TreeWriter(checkpoint, root, &picks, output).write();
  return {};
}

}  // namespace flatbed::tool
