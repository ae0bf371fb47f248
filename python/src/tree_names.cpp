#include "tree_names.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <set>
#include <utility>

#include "tree.hpp"

namespace flatbed::python {

namespace {

constexpr std::uint32_t kNoStep = 0xFFFFFFFF;
constexpr std::size_t kMaxPlace = 400;  // bytes of a place that is shown

// How a node is reached: from which one, by which key or index.
struct Reached {
  NodeId from = kNoNode;
  NodeId key = kNoNode;          // of a dict or object
  std::uint32_t step = kNoStep;  // index in a list or tuple
  bool is_arguments = false;     // whose indices say nothing
  bool seen = false;
  bool opened = false;
};

class NameSearch {
 public:
  explicit NameSearch(Value root) : root_(root) {}

  // The tensors that search() met.
  [[nodiscard]] std::vector<Value> tensors() && { return std::move(tensors_); }

  std::vector<TreeName> search() {
    visit(root_.id(), {});
    add_value(root_);
    while (!pending_.empty()) {
      const NodeId id = pending_.back();
      pending_.pop_back();
      name(root_.node(id));
      const std::size_t first = pending_.size();
      open(root_.node(id));
      std::reverse(pending_.begin() + static_cast<std::ptrdiff_t>(first), pending_.end());
    }
    return std::move(names_);
  }

 private:
  void visit(NodeId id, const Reached& by) {
    if (id == kNoNode) return;
    Reached& reached = node_slot(reached_, id);
    if (std::exchange(reached.seen, true)) {
      // Arguments of a call that are also a value: so is what they hold.
      const bool was_arguments =
          std::exchange(reached.is_arguments, reached.is_arguments && by.is_arguments);
      if (was_arguments && !by.is_arguments && reached.opened) add_values(root_.node(id));
      return;
    }
    reached = by;
    reached.seen = true;
    pending_.push_back(id);
  }

  // The names that are values in it, and no parts of a call.
  void add_values(Value container) {
    if (container.kind() == Kind::list || container.kind() == Kind::tuple) {
      for (std::size_t i = 0; i < container.size(); ++i) add_value(container.item(i));
    }
    for (const auto [key, item] : container.pairs()) {
      add_value(key);
      add_value(item);
    }
    if (container.kind() != Kind::object) return;
    for (std::size_t i = 0; i < container.appended_size(); ++i) add_value(container.appended(i));
    if (const std::optional<Value> state = container.state()) add_value(*state);
  }

  void add_value(Value value) {
    if (value.kind() != Kind::global) return;
    add("value", std::string(value.text()) + "." + std::string(value.qualname()), value);
  }

  void open(Value value) {
    const NodeId id = value.id();
    node_slot(reached_, id).opened = true;
    if (value.kind() == Kind::object) {
      visit(value.callable().id(), {id});
      visit(value.arguments().id(), {.from = id, .is_arguments = true});
      for (std::size_t i = 0; i < value.appended_size(); ++i)
        visit(value.appended(i).id(), {id, kNoNode, static_cast<std::uint32_t>(i)});
    }
    if (value.kind() == Kind::tensor) {
      visit(value.attributes().quantizer, {id});
      visit(value.attributes().state, {id});
    }
    for (const auto [key, item] : value.pairs()) {
      visit(key.id(), {id});
      visit(item.id(), {id, key.id()});
    }
    if (value.kind() == Kind::list || value.kind() == Kind::tuple) {
      const bool named = !node_slot(reached_, id).is_arguments;
      for (std::size_t i = 0; i < value.size(); ++i)
        visit(value.item(i).id(), {id, kNoNode, named ? static_cast<std::uint32_t>(i) : kNoStep});
    }
    if (const std::optional<Value> state = value.state()) visit(state->id(), {id});
    if (!node_slot(reached_, id).is_arguments) add_values(value);
  }

  void name(Value value) {
    switch (value.kind()) {
      case Kind::global:
        add("named", std::string(value.text()) + "." + std::string(value.qualname()), value);
        break;
      case Kind::tensor:
        tensors_.push_back(value);
        break;
      case Kind::array:
        add("array", std::string(value.text()), value);
        break;
      case Kind::scalar:
        add("scalar", std::string(value.text()), value);
        break;
      case Kind::object:
        if (value.callable().kind() != Kind::global) add("call", {}, value);
        break;
      default:
        break;
    }
  }

  void add(std::string_view what, std::string name, Value value) {
    if (!known_.emplace(what, name).second) return;
    names_.push_back({what, std::move(name), place_of(value.id())});
  }

  [[nodiscard]] std::string place_of(NodeId id) const {
    std::string place;
    for (Reached by = reached_[id]; by.from != kNoNode; by = reached_[by.from]) {
      const std::string part = component(by);
      if (part.empty()) continue;
      place = place.empty() ? part : part + "." + place;
      if (place.size() > kMaxPlace) return "..." + place.substr(place.size() - kMaxPlace);
    }
    return place;
  }

  [[nodiscard]] std::string component(const Reached& by) const {
    if (by.step != kNoStep) return std::to_string(by.step);
    const Value key = root_.node(by.key);
    if (key.kind() == Kind::string) return std::string(key.text());
    if (const auto number = key.as_int()) return std::to_string(*number);
    return {};
  }

  Value root_;
  std::vector<Reached> reached_;
  std::vector<NodeId> pending_;
  std::set<std::pair<std::string_view, std::string>> known_;
  std::vector<TreeName> names_;
  std::vector<Value> tensors_;
};

}  // namespace

std::vector<TreeName> tree_names(Value root) { return NameSearch(root).search(); }

std::vector<Value> tree_tensors(Value root) {
  NameSearch search(root);
  static_cast<void>(search.search());
  return std::move(search).tensors();
}

}  // namespace flatbed::python
