// The walk that names tensors. It is iterative, because a tree may be nested as deeply as its file
// is long.
#include "value/tensor_names.hpp"

#include <iterator>
#include <optional>
#include <span>
#include <unordered_map>

#include "base/str_cat.hpp"
#include "flatbed/torch_module.hpp"
#include "io/name_index.hpp"
#include "value/tensor_path.hpp"
#include "value/tensor_wrapper.hpp"

namespace flatbed {

namespace {

constexpr std::size_t kMaxEdges = 50'000'000;  // no header could hold a tree with more children
constexpr std::uint32_t kUnnamed = 0xFFFFFFFF;
constexpr std::size_t kAliasBytes = 64;  // size of an alias besides its names
// Flag in the index: the other bits are the alias's number.
constexpr std::uint32_t kAlias = 0x80000000;

using Component = PathComponent;

// The place of a child, where it adds less to a path than others do.
enum class As : std::uint8_t {
  value,
  state,          // of an object
  arguments,      // of the function that makes the tensor of a subclass
  subclass_state  // of such a tensor
};

struct Child {
  Value value;
  Component component;
  As as = As::value;
};

Child indexed(Value value, std::size_t index) {
  return {value, {Component::Kind::index, static_cast<std::uint32_t>(index), kNoNode}};
}

// Child `i` of a dict or of an object's pairs, `pairs`: keys and values alternate.
Child paired(Value of, std::span<const NodeId> pairs, std::size_t i) {
  const auto pair = static_cast<std::uint32_t>(i / 2);
  if (i % 2 == 0) return {of.node(pairs[i]), {Component::Kind::inside_key, pair, kNoNode}};
  return {of.node(pairs[i]), {Component::Kind::key, pair, pairs[i - 1]}};
}

// Argument `i` of a call. Those of a wrapper add nothing to a path (spec N6).
Child argument(Value object, Value arguments, std::size_t i) {
  Child child = indexed(arguments.item(i), i);
  const Wrapper wrapper = wrapper_of(object);
  if (wrapper == Wrapper::none) return child;
  child.component = {};
  if (wrapper == Wrapper::subclass && i == 2) child.as = As::arguments;
  if (i == 3) child.as = As::subclass_state;
  return child;
}

// Child `i` of a node in the order of the text (spec N1), or nullopt after the last one.
std::optional<Child> child_of(const ValueTree& tree, Value value, std::size_t i) {
  if (value.kind() == Kind::object) {
    if (i == 0) return Child{value.callable(), {}};
    i -= 1;
    const Value arguments = value.arguments();
    if (i < arguments.size()) return argument(value, arguments, i);
    i -= arguments.size();
    if (i < value.appended_size()) return indexed(value.appended(i), i);
    i -= value.appended_size();
  }
  const bool pairs = value.kind() == Kind::dict || value.kind() == Kind::object;
  const std::size_t size = pairs ? value.size() * 2 : value.size();
  if (i < size) return pairs ? paired(value, value.children(), i) : indexed(value.item(i), i);
  i -= size;
  const std::optional<Value> state = value.state();
  const NodeId rest[] = {state ? state->id() : kNoNode, value.attributes().quantizer,
                         value.attributes().state};
  if (i >= std::size(rest)) return std::nullopt;
  return Child{tree.value(rest[i]), {}, i == 0 ? As::state : As::value};
}

// Nearly all tensors and many containers have none, so they need not be opened.
inline bool may_have_children(Value value) {
  switch (value.kind()) {
    case Kind::tensor:
      return value.attributes().quantizer != kNoNode || value.attributes().state != kNoNode;
    case Kind::object:
      // A module has a dozen OrderedDicts of hooks, which are empty.
      return !value.is_bare_call() || !value.arguments().children().empty() ||
             value.callable().kind() != Kind::global;
    default:
      return !value.children().empty();
  }
}

// Whether a value is a tensor or a container with something in it.
inline bool may_hold_tensors(Value value) {
  switch (value.kind()) {
    case Kind::tensor:
    case Kind::array:
    case Kind::bytes:
      return true;
    case Kind::list:
    case Kind::tuple:
    case Kind::dict:
    case Kind::object:
      return may_have_children(value);
    default:
      return false;
  }
}

// The dicts of a module. Their keys in its attributes add nothing to a path (spec N5).
bool is_module_part(Value key) {
  return key.kind() == Kind::string &&
         (key.text() == "_parameters" || key.text() == "_buffers" || key.text() == "_modules");
}

bool is_local_tensor(Value key) { return key.kind() == Kind::string && key.text() == kLocalTensor; }

// A parameter or buffer of a lazy module, which gets its shape and values when the module runs.
bool is_uninitialized(Value value) {
  const Value made_by = value.callable();
  return made_by.kind() == Kind::global && made_by.text() == "torch.nn.parameter" &&
         made_by.qualname().starts_with("Uninitialized");
}

class Walker {
 public:
  Walker(const ValueTree& tree, std::size_t expected)
      : tree_(tree),
        entered_(tree.size()),
        stated_(tree.size()),
        attributes_(tree.size()),
        wrappers_(tree.size()),
        silent_(tree.size()),
        local_(tree.size()),
        path_(tree) {
    number_of_.reserve(expected);
    result_.names.reserve(expected);
    result_.order.reserve(expected);
    result_.index = NameIndex(expected);
  }

  Result<TensorNames> run() {
    FLATBED_TRY(visit(tree_.root(), {}));
    while (!open_.empty()) {
      Open& open = open_.back();
      const std::optional<Child> child = next_child(open);
      if (++edges_ > kMaxEdges) {
        return make_error(ErrorCode::limit_exceeded, "the structure has more than ", kMaxEdges,
                          " entries");
      }
      if (!child) {
        if (open.has_component) path_.pop();
        open_.pop_back();
        continue;
      }
      mark(*child);
      FLATBED_TRY(open.what == What::state ? visit_state(child->value, child->component)
                                           : visit(child->value, child->component));
    }
    const auto names = static_cast<std::uint32_t>(result_.names.size());
    if (!result_.aliases.empty())
      result_.index.renumber([&](std::uint32_t n) { return n < kAlias ? n : n - kAlias + names; });
    return std::move(result_);
  }

 private:
  // The part of a node that is walked: all of it, the children of a module, or their state.
  enum class What : std::uint8_t { all, state };

  // A node on the path from the root to the current place.
  struct Open {
    NodeId node;
    What what;
    bool has_component;    // it has a component in path_
    std::size_t next = 0;  // the next child to walk
  };

  // The next child that can hold a tensor. Most children hold none and are skipped here.
  std::optional<Child> next_child(Open& open) {
    const Value value = tree_.value(open.node);
    if (open.what == What::state) {
      const std::size_t i = open.next++;
      if (value.kind() == Kind::object && wrappers_[open.node])
        return i == 0 ? std::optional(wrapped_in(value)) : std::nullopt;
      return i < value.size() ? std::optional(paired(value, value.children(), i * 2 + 1))
                              : std::nullopt;
    }
    if (value.kind() == Kind::dict) return next_in_dict(open, value);
    for (;;) {
      std::optional<Child> child = child_of(tree_, value, open.next++);
      // The callable comes before the first argument.
      if (open.next == 2 && wrappers_[open.node]) return wrapped_in(value);
      if (child && silent_[open.node]) child->component = {};
      if (!child || may_hold_tensors(child->value)) return child;
      ++edges_;
    }
  }

  // Notes what the place of a container says about the components of its children. A container is
  // walked only once, from its first place.
  void mark(const Child& child) {
    const Value value = child.value;
    if (child.as == As::value || entered_[value.id()]) return;
    const bool slots = child.as != As::arguments && is_slots_state(value);
    const bool only = child.as == As::arguments && value.kind() == Kind::tuple && value.size() == 1;
    silent_[value.id()] = slots || only;
    local_[value.id()] = child.as == As::subclass_state && value.kind() == Kind::dict;
  }

  // N5: a module that torch.compile made.
  static Child wrapped_in(Value compiled) {
    return {compiled.arguments().item(0), {.kind = Component::Kind::wrapped}};
  }

  std::optional<Child> next_in_dict(Open& open, Value dict) {
    const std::span<const NodeId> pairs = dict.children();
    while (open.next < pairs.size()) {
      const std::size_t i = open.next++;
      if (!may_hold_tensors(dict.node(pairs[i]))) {
        ++edges_;
        continue;
      }
      Child child = paired(dict, pairs, i);
      const bool adds_none =
          i % 2 == 1 && ((attributes_[open.node] && is_module_part(dict.key(i / 2))) ||
                         (local_[open.node] && is_local_tensor(dict.key(i / 2))));
      if (adds_none) child.component = {};
      return child;
    }
    return std::nullopt;
  }

  void push(NodeId node, What what, const Component& component) {
    open_.push_back({node, what, component.kind != Component::Kind::nothing});
    if (open_.back().has_component) path_.push(component);
  }

  // Names the tensor of a node. Opens the node if it may have children and was not open before.
  Result<void> visit(Value value, const Component& component) {
    if (const auto tensor = value.tensor()) FLATBED_TRY(name(value, *tensor, component));
    switch (value.kind()) {
      case Kind::list:
      case Kind::tuple:
      case Kind::dict:
      case Kind::object:
      case Kind::tensor:
        if (entered_[value.id()] || !may_have_children(value)) return {};
        entered_[value.id()] = true;
        if (value.kind() == Kind::object && is_uninitialized(value))
          FLATBED_TRY(count_uninitialized(component));
        push(value.id(), What::all, attributes_[value.id()] ? Component{} : component);
        return visit_state(value, {});
      default:
        return {};
    }
  }

  // N5: the state of a module comes first: parameters before buffers before children. The last one
  // pushed is walked first. Parameters and buffers are not modules, so this ends.
  Result<void> visit_state(Value value, const Component& component) {
    if (value.kind() != Kind::object || stated_[value.id()]) return {};
    const std::optional<TorchModule> module = TorchModule::of(value);
    if (!module) return {};
    stated_[value.id()] = true;
    if (module->wrapped()) {
      wrappers_[value.id()] = true;
      push(value.id(), What::state, component);
      return {};
    }
    attributes_[module->attributes().id()] = true;
    push(module->children().id(), What::state, component);
    FLATBED_TRY(visit(module->buffers(), {}));
    return visit(module->parameters(), {});
  }

  Result<void> count_uninitialized(const Component& last) {
    if (result_.uninitialized_count++ >= kMaxUninitialized) return {};
    FLATBED_ASSIGN(const std::string_view text, path_.name(last));
    FLATBED_TRY(take_bytes(text.size()));
    result_.uninitialized.emplace_back(text);
    return {};
  }

  Result<void> take_bytes(std::size_t nbytes) {
    taken_bytes_ += nbytes;
    if (taken_bytes_ <= kMaxNameBytes) return {};
    return make_error(ErrorCode::limit_exceeded, "the names of the tensors have more than ",
                      kMaxNameBytes, " bytes together");
  }

  Result<void> name(Value value, std::uint32_t tensor, const Component& last) {
    if (tensor >= number_of_.size()) number_of_.resize(std::size_t{tensor} + 1, kUnnamed);
    const bool first = number_of_[tensor] == kUnnamed;
    if (!first && value.kind() != Kind::tensor) return {};
    FLATBED_ASSIGN(std::string_view text, path_.name(last));
    const std::size_t count = first ? result_.names.size() : result_.aliases.size();
    const std::string unique =
        take_name(text, static_cast<std::uint32_t>(count) | (first ? 0 : kAlias));
    if (!unique.empty()) text = unique;
    // An alias also needs room for its target's name.
    const std::size_t target = first ? 0 : result_.names[number_of_[tensor]].size() + kAliasBytes;
    FLATBED_TRY(take_bytes(text.size() + target));
    if (first) {
      number_of_[tensor] = static_cast<std::uint32_t>(count);
      result_.names.add(text);
      result_.order.push_back(tensor);
    } else {
      result_.aliases.push_back(
          {std::string(text), std::string(result_.names[number_of_[tensor]])});
    }
    return {};
  }

  // N3: appends "~1", "~2", ... until the name is free, then assigns it to `number`. Returns the
  // new name, or nullopt if the text itself was free.
  std::string take_name(std::string_view text, std::uint32_t number) {
    if (text != "__metadata__" && take(text, number)) return {};
    std::uint32_t& last = last_suffix_[std::string(text)];
    std::string candidate;
    do {
      candidate = str_cat(text, "~", ++last);
    } while (!take(candidate, number));
    return candidate;
  }

  bool take(std::string_view text, std::uint32_t number) {
    const auto text_of = [this](std::uint32_t n) -> std::string_view {
      return n < kAlias ? result_.names[n] : std::string_view(result_.aliases[n - kAlias].name);
    };
    return !result_.index.insert(text, number, text_of);
  }

  const ValueTree& tree_;
  std::vector<bool> entered_;
  std::vector<bool> stated_;      // modules whose state was walked
  std::vector<bool> attributes_;  // dicts that are the attributes of a module
  std::vector<bool> wrappers_;    // modules that torch.compile made
  std::vector<bool> silent_;      // tuples whose indices are not components
  std::vector<bool> local_;       // dicts that are the state of a tensor's subclass
  std::vector<Open> open_;
  TensorPath path_;                       // of the open nodes that have a component
  std::vector<std::uint32_t> number_of_;  // for each tensor: its name, or kUnnamed
  std::unordered_map<std::string, std::uint32_t> last_suffix_;
  std::size_t taken_bytes_ = 0;
  std::size_t edges_ = 0;
  TensorNames result_;
};

}  // namespace

Result<TensorNames> name_tensors(const ValueTree& tree, std::size_t expected) {
  return Walker(tree, expected).run();
}

}  // namespace flatbed
