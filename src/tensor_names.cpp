// The walk that names tensors. Iterative: a tree may be nested as deeply as its file was long.
#include "tensor_names.hpp"

#include <algorithm>
#include <unordered_map>

#include "base/str_cat.hpp"
#include "base/utf8.hpp"
#include "io/name_index.hpp"

namespace flatbed {

namespace {

constexpr std::size_t kMaxNameBytes = 100'000'000;  // all names together: no header could hold more
constexpr std::size_t kMaxEdges = 200'000'000;
constexpr std::size_t kMaxKeyHex = 3'400;  // about 4,096 decimal digits
constexpr std::uint32_t kNoStep = 0xFFFFFFFF;
constexpr std::uint32_t kUnnamed = 0xFFFFFFFF;

// One component of a path, linked to the one before it.
struct Step {
  std::uint32_t parent = kNoStep;
  std::uint32_t index = 0;
  NodeId key = kNoNode;     // kNoNode: the index is the component
  bool inside_key = false;  // the component is the word "key"
};

// A place of the tree that is still to be walked.
struct Place {
  NodeId node = kNoNode;
  std::uint32_t step = kNoStep;
};

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

class Walker {
 public:
  explicit Walker(const ValueTree& tree) : tree_(tree), entered_(tree.size()) {}

  Result<TensorNames> run() {
    pending_.push_back({tree_.root().id(), kNoStep});
    while (!pending_.empty()) {
      const Place place = pending_.back();
      pending_.pop_back();
      FLATBED_TRY(visit(tree_.value(place.node), place.step));
    }
    return std::move(result_);
  }

 private:
  Result<void> visit(Value value, std::uint32_t step) {
    switch (value.kind()) {
      case Kind::tensor:
      case Kind::array:
      case Kind::bytes:
        if (const auto tensor = value.tensor()) FLATBED_TRY(name(value, *tensor, step));
        if (entered_[value.id()]) return {};
        break;
      case Kind::list:
      case Kind::tuple:
      case Kind::dict:
      case Kind::object:
        if (entered_[value.id()]) return {};
        break;
      default:
        return {};
    }
    entered_[value.id()] = true;
    const std::size_t first = pending_.size();
    push_children(value, step);
    edges_ += pending_.size() - first;
    if (edges_ > kMaxEdges || steps_.size() > kMaxEdges) {
      return make_error(ErrorCode::limit_exceeded, "the structure has more than ", kMaxEdges,
                        " entries");
    }
    // Pushed in text order, popped in reverse.
    std::reverse(pending_.begin() + static_cast<std::ptrdiff_t>(first), pending_.end());
    return {};
  }

  void push_children(Value value, std::uint32_t step) {
    if (value.kind() == Kind::object) {
      push(value.callable(), step);
      const Value arguments = value.arguments();
      for (std::size_t i = 0; i < arguments.size(); ++i) push_indexed(arguments.item(i), step, i);
      for (std::size_t i = 0; i < value.appended_size(); ++i)
        push_indexed(value.appended(i), step, i);
    }
    const bool pairs = value.kind() == Kind::dict || value.kind() == Kind::object;
    for (std::size_t i = 0; i < value.size(); ++i) {
      if (pairs) {
        push_pair(value, step, i);
      } else {
        push_indexed(value.item(i), step, i);
      }
    }
    if (const auto state = value.state()) push(*state, step);
    for (const NodeId id : {value.attributes().quantizer, value.attributes().state}) {
      if (id != kNoNode) push(tree_.value(id), step);
    }
  }

  // Only what can hold a tensor is worth a place.
  static bool can_hold(Value value) {
    switch (value.kind()) {
      case Kind::list:
      case Kind::tuple:
      case Kind::dict:
      case Kind::object:
      case Kind::tensor:
      case Kind::array:
        return true;
      default:
        return value.tensor().has_value();
    }
  }

  void push(Value value, std::uint32_t step) {
    if (can_hold(value)) pending_.push_back({value.id(), step});
  }

  std::uint32_t add_step(const Step& step) {
    steps_.push_back(step);
    return static_cast<std::uint32_t>(steps_.size() - 1);
  }

  void push_indexed(Value value, std::uint32_t step, std::size_t index) {
    if (!can_hold(value)) return;
    push(value, add_step({step, static_cast<std::uint32_t>(index), kNoNode, false}));
  }

  void push_pair(Value of, std::uint32_t step, std::size_t index) {
    const Value key = of.key(index);
    const auto number = static_cast<std::uint32_t>(index);
    if (can_hold(key)) {
      const std::uint32_t pair = add_step({step, number, kNoNode, false});
      push(key, add_step({pair, 0, kNoNode, true}));
    }
    const Value value = of.item(index);
    if (can_hold(value)) push(value, add_step({step, number, key.id(), false}));
  }

  Result<void> name(Value value, std::uint32_t tensor, std::uint32_t step) {
    if (tensor >= number_of_.size()) number_of_.resize(std::size_t{tensor} + 1, kUnnamed);
    const bool first = number_of_[tensor] == kUnnamed;
    if (!first && value.kind() != Kind::tensor) return {};
    FLATBED_ASSIGN(std::string text, path_text(step));
    FLATBED_TRY(make_unique(text));
    taken_bytes_ += text.size();
    if (taken_bytes_ > kMaxNameBytes) {
      return make_error(ErrorCode::limit_exceeded, "the names of the tensors have more than ",
                        kMaxNameBytes, " bytes together");
    }
    if (first) {
      number_of_[tensor] = static_cast<std::uint32_t>(result_.names.size());
      result_.names.push_back(std::move(text));
      result_.order.push_back(tensor);
    } else {
      result_.aliases.push_back({std::move(text), result_.names[number_of_[tensor]]});
    }
    return {};
  }

  // N1: the components of the path, joined with dots.
  Result<std::string> path_text(std::uint32_t step) {
    if (step == kNoStep) return std::string("tensor");
    path_.clear();
    for (; step != kNoStep; step = steps_[step].parent) path_.push_back(step);
    std::string text;
    for (std::size_t i = path_.size(); i-- > 0;) {
      FLATBED_TRY(append_component(text, steps_[path_[i]]));
      if (i > 0) text += '.';
      if (text.size() > kMaxNameBytes) {
        return make_error(ErrorCode::limit_exceeded, "a tensor's name has more than ",
                          kMaxNameBytes, " bytes");
      }
    }
    return text;
  }

  // N2
  Result<void> append_component(std::string& text, const Step& step) const {
    const Value key = tree_.value(step.key);
    if (step.inside_key) {
      text += "key";
    } else if (step.key == kNoNode) {
      text += str_cat(step.index);
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
      text += str_cat(step.index);
    }
    return {};
  }

  // N3: "~1", "~2", ... until the name is free.
  Result<void> make_unique(std::string& text) {
    if (text != "__metadata__" && take(text)) return {};
    std::uint32_t& last = last_suffix_[text];
    std::string candidate;
    do {
      candidate = str_cat(text, "~", ++last);
    } while (!take(candidate));
    text = std::move(candidate);
    return {};
  }

  bool take(const std::string& text) {
    const auto text_of = [&](std::uint32_t n) -> std::string_view { return taken_[n]; };
    if (index_.insert(text, static_cast<std::uint32_t>(taken_.size()), text_of)) return false;
    taken_.push_back(text);
    return true;
  }

  const ValueTree& tree_;
  std::vector<bool> entered_;
  std::vector<Place> pending_;
  std::vector<Step> steps_;
  std::vector<std::uint32_t> path_;
  std::vector<std::uint32_t> number_of_;  // per tensor: its name, or kUnnamed
  std::vector<std::string> taken_;
  std::unordered_map<std::string, std::uint32_t> last_suffix_;
  NameIndex index_;
  std::size_t taken_bytes_ = 0;
  std::size_t edges_ = 0;
  TensorNames result_;
};

}  // namespace

Result<TensorNames> name_tensors(const ValueTree& tree) { return Walker(tree).run(); }

}  // namespace flatbed
