// The walk that names tensors. Iterative: a tree may be nested as deeply as its file was long.
#include "tensor_names.hpp"

#include <algorithm>
#include <iterator>
#include <optional>
#include <unordered_map>

#include "base/str_cat.hpp"
#include "base/utf8.hpp"
#include "flatbed/torch_module.hpp"
#include "io/name_index.hpp"

namespace flatbed {

namespace {

constexpr std::size_t kMaxNameBytes = 100'000'000;  // all names together: no header could hold more
constexpr std::size_t kMaxEdges = 50'000'000;       // nor a tree with more children
constexpr std::size_t kMaxKeyHex = 3'400;           // about 4,096 decimal digits
constexpr std::uint32_t kUnnamed = 0xFFFFFFFF;
constexpr std::size_t kAliasBytes = 64;       // what an alias takes beside its names
constexpr std::uint32_t kAlias = 0x80000000;  // in the index: the rest counts into the aliases

// What a child adds to the path of its parent.
struct Component {
  enum class Kind : std::uint8_t { nothing, index, key, inside_key, wrapped };
  Kind kind = Kind::nothing;
  std::uint32_t index = 0;  // inside_key: of the pair; key: of the pair, where the key has no text
  NodeId key = kNoNode;     // key
};

struct Child {
  Value value;
  Component component;
};

Child indexed(Value value, std::size_t index) {
  return {value, {Component::Kind::index, static_cast<std::uint32_t>(index), kNoNode}};
}

// Child `i` of a dict or of an object's pairs: keys and values alternate.
Child paired(Value of, std::size_t i) {
  const auto pair = static_cast<std::uint32_t>(i / 2);
  if (i % 2 == 0) return {of.key(pair), {Component::Kind::inside_key, pair, kNoNode}};
  return {of.item(pair), {Component::Kind::key, pair, of.key(pair).id()}};
}

// Child `i` of a node in the order of the text (spec N1), or nothing behind the last one.
std::optional<Child> child_of(const ValueTree& tree, Value value, std::size_t i) {
  if (value.kind() == Kind::object) {
    if (i == 0) return Child{value.callable(), {}};
    i -= 1;
    const Value arguments = value.arguments();
    if (i < arguments.size()) return indexed(arguments.item(i), i);
    i -= arguments.size();
    if (i < value.appended_size()) return indexed(value.appended(i), i);
    i -= value.appended_size();
  }
  const bool pairs = value.kind() == Kind::dict || value.kind() == Kind::object;
  const std::size_t size = pairs ? value.size() * 2 : value.size();
  if (i < size) return pairs ? paired(value, i) : indexed(value.item(i), i);
  i -= size;
  const std::optional<Value> state = value.state();
  const NodeId rest[] = {state ? state->id() : kNoNode, value.attributes().quantizer,
                         value.attributes().state};
  return i < std::size(rest) ? std::optional(Child{tree.value(rest[i]), {}}) : std::nullopt;
}

// The decimal digits of "-1f"-style hex.
std::string decimal(std::string_view hex) {
  const bool negative = hex.starts_with('-');
  std::string digits = "0";  // least significant first
  for (const char c : hex.substr(negative ? 1 : 0)) {
    int carry = c <= '9' ? c - '0' : c - 'a' + 10;
    for (char& digit : digits) {
      const int value = (digit - '0') * 16 + carry;
      digit = static_cast<char>('0' + value % 10);
      carry = value / 10;
    }
    for (; carry > 0; carry /= 10) digits += static_cast<char>('0' + carry % 10);
  }
  if (negative) digits += '-';
  std::reverse(digits.begin(), digits.end());
  return digits;
}

// Nearly all tensors, and many containers, have none: they need not be opened to see that.
bool may_have_children(Value value) {
  switch (value.kind()) {
    case Kind::tensor:
      return value.attributes().quantizer != kNoNode || value.attributes().state != kNoNode;
    case Kind::object:
      // A module has a dozen OrderedDicts of hooks, which are empty.
      return value.callable().kind() != Kind::global || value.arguments().size() != 0 ||
             value.size() != 0 || value.appended_size() != 0 || value.state();
    default:
      return value.size() != 0;
  }
}

// Whether a value is a tensor or a container with something in it.
bool may_hold_tensors(Value value) {
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

// The dicts of a module, whose keys in its attributes add nothing to a path (spec N5).
bool is_module_part(Value key) {
  return key.kind() == Kind::string &&
         (key.text() == "_parameters" || key.text() == "_buffers" || key.text() == "_modules");
}

// A parameter or buffer of a lazy module, which gets a shape and values when the module runs.
bool is_uninitialized(Value value) {
  const Value made_by = value.callable();
  return made_by.kind() == Kind::global && made_by.text() == "torch.nn.parameter" &&
         made_by.qualname().starts_with("Uninitialized");
}

class Walker {
 public:
  explicit Walker(const ValueTree& tree)
      : tree_(tree),
        entered_(tree.size()),
        stated_(tree.size()),
        attributes_(tree.size()),
        wrappers_(tree.size()) {}

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
        if (open.has_component) path_.pop_back();
        open_.pop_back();
        continue;
      }
      FLATBED_TRY(open.what == What::state ? visit_state(child->value, child->component)
                                           : visit(child->value, child->component));
    }
    return std::move(result_);
  }

 private:
  // What is walked of a node: all of it; or of the children of a module, their state.
  enum class What : std::uint8_t { all, state };

  // A node of the path from the root to the place of the walk.
  struct Open {
    NodeId node;
    What what;
    bool has_component;    // in path_
    std::size_t next = 0;  // its child that is walked next
  };

  // The next child that can hold a tensor. Most hold none, so that they are passed over here.
  std::optional<Child> next_child(Open& open) {
    const Value value = tree_.value(open.node);
    if (open.what == What::state) {
      const std::size_t i = open.next++;
      if (value.kind() == Kind::object && wrappers_[open.node])
        return i == 0 ? std::optional(wrapped_in(value)) : std::nullopt;
      return i < value.size() ? std::optional(paired(value, i * 2 + 1)) : std::nullopt;
    }
    if (value.kind() == Kind::dict) return next_in_dict(open, value);
    for (;;) {
      std::optional<Child> child = child_of(tree_, value, open.next++);
      // The callable comes before the first argument.
      if (open.next == 2 && wrappers_[open.node]) return wrapped_in(value);
      if (!child || may_hold_tensors(child->value)) return child;
      ++edges_;
    }
  }

  // N5: of what torch.compile made.
  static Child wrapped_in(Value compiled) {
    return {compiled.arguments().item(0), {.kind = Component::Kind::wrapped}};
  }

  std::optional<Child> next_in_dict(Open& open, Value dict) {
    for (const std::size_t size = dict.size() * 2; open.next < size;) {
      const std::size_t i = open.next++;
      const Value value = i % 2 == 0 ? dict.key(i / 2) : dict.item(i / 2);
      if (!may_hold_tensors(value)) {
        ++edges_;
        continue;
      }
      Child child = paired(dict, i);
      if (i % 2 == 1 && attributes_[open.node] && is_module_part(dict.key(i / 2)))
        child.component = {};
      return child;
    }
    return std::nullopt;
  }

  void push(NodeId node, What what, const Component& component) {
    open_.push_back({node, what, component.kind != Component::Kind::nothing});
    if (open_.back().has_component) path_.push_back(component);
  }

  // Names the tensor of a node, and opens it where it may have children and was not open before.
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

  // N5: of a module its state comes first, parameters before buffers before children. What is
  // pushed last is walked first; parameters and buffers are no modules, so that this ends.
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
    FLATBED_ASSIGN(std::string text, path_text(last));
    taken_bytes_ += text.size();
    result_.uninitialized.push_back(std::move(text));
    return {};
  }

  Result<void> name(Value value, std::uint32_t tensor, const Component& last) {
    if (tensor >= number_of_.size()) number_of_.resize(std::size_t{tensor} + 1, kUnnamed);
    const bool first = number_of_[tensor] == kUnnamed;
    if (!first && value.kind() != Kind::tensor) return {};
    FLATBED_ASSIGN(std::string text, path_text(last));
    const std::size_t count = first ? result_.names.size() : result_.aliases.size();
    make_unique(text, static_cast<std::uint32_t>(count) | (first ? 0 : kAlias));
    // An alias takes its target's name, too.
    taken_bytes_ +=
        text.size() + (first ? 0 : result_.names[number_of_[tensor]].size() + kAliasBytes);
    if (taken_bytes_ > kMaxNameBytes) {
      return make_error(ErrorCode::limit_exceeded, "the names of the tensors have more than ",
                        kMaxNameBytes, " bytes together");
    }
    if (first) {
      number_of_[tensor] = static_cast<std::uint32_t>(count);
      result_.names.push_back(std::move(text));
      result_.order.push_back(tensor);
    } else {
      result_.aliases.push_back({std::move(text), result_.names[number_of_[tensor]]});
    }
    return {};
  }

  // N1: the components of the path, joined with dots.
  Result<std::string> path_text(const Component& last) const {
    std::string text;
    bool first = true;
    const auto append = [&](const Component& component) -> Result<void> {
      if (component.kind == Component::Kind::nothing) return {};
      if (!first) text += '.';
      first = false;
      FLATBED_TRY(append_component(text, component));
      if (text.size() <= kMaxNameBytes) return {};
      return make_error(ErrorCode::limit_exceeded, "a tensor's name has more than ", kMaxNameBytes,
                        " bytes");
    };
    for (const Component& component : path_) FLATBED_TRY(append(component));
    FLATBED_TRY(append(last));
    return first ? std::string("tensor") : text;
  }

  // N2
  Result<void> append_component(std::string& text, const Component& component) const {
    const Value key = tree_.value(component.key);
    if (component.kind == Component::Kind::inside_key) {
      text += str_cat(component.index, ".key");
    } else if (component.kind == Component::Kind::index) {
      text += str_cat(component.index);
    } else if (component.kind == Component::Kind::wrapped) {
      text += kWrappedModule;
    } else if (key.kind() == Kind::string) {
      if (is_utf8(key.text())) {
        text += key.text();
      } else {
        text += replace_surrogates(key.text());
      }
    } else if (key.kind() == Kind::integer) {
      text += str_cat(*key.as_int());
    } else if (key.kind() == Kind::big_integer) {
      if (key.text().size() > kMaxKeyHex) {
        return make_error(ErrorCode::limit_exceeded, "an int used as a key has ", key.text().size(),
                          " hex digits, at most ", kMaxKeyHex, " are named");
      }
      text += decimal(key.text());
    } else if (key.kind() == Kind::boolean) {
      text += *key.as_bool() ? "True" : "False";
    } else if (key.kind() == Kind::none) {
      text += "None";
    } else {
      text += str_cat(component.index);
    }
    return {};
  }

  // N3: "~1", "~2", ... until the name is free; then it is taken by `number`.
  void make_unique(std::string& text, std::uint32_t number) {
    if (text != "__metadata__" && take(text, number)) return;
    std::uint32_t& last = last_suffix_[text];
    std::string candidate;
    do {
      candidate = str_cat(text, "~", ++last);
    } while (!take(candidate, number));
    text = std::move(candidate);
  }

  bool take(std::string_view text, std::uint32_t number) {
    const auto text_of = [this](std::uint32_t n) -> std::string_view {
      return n < kAlias ? result_.names[n] : result_.aliases[n - kAlias].name;
    };
    return !index_.insert(text, number, text_of);
  }

  const ValueTree& tree_;
  std::vector<bool> entered_;
  std::vector<bool> stated_;      // modules whose state was walked
  std::vector<bool> attributes_;  // dicts that are the attributes of a module
  std::vector<bool> wrappers_;    // what torch.compile made
  std::vector<Open> open_;
  std::vector<Component> path_;           // of the open nodes, where they have one
  std::vector<std::uint32_t> number_of_;  // per tensor: its name, or kUnnamed
  std::unordered_map<std::string, std::uint32_t> last_suffix_;
  NameIndex index_;
  std::size_t taken_bytes_ = 0;
  std::size_t edges_ = 0;
  TensorNames result_;
};

}  // namespace

Result<TensorNames> name_tensors(const ValueTree& tree) { return Walker(tree).run(); }

}  // namespace flatbed
