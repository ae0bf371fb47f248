#include "torch/tree_check.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/str_cat.hpp"
#include "io/name_index.hpp"
#include "torch/torch_tensors.hpp"
#include "value/number_key.hpp"

namespace flatbed::pth {

namespace {

// Up to this many keys are compared pairwise.
constexpr std::size_t kSmallDict = 16;

Error duplicate(Value key) {
  const std::string text = key.kind() == Kind::string    ? quoted(key.text())
                           : key.kind() == Kind::integer ? str_cat(*key.as_int())
                           : key.kind() == Kind::none    ? "None"
                                                         : "a number or bytes";
  return make_error(ErrorCode::pickle_duplicate_key, "a dict has the key ", text, " twice");
}

// A key that is not a str, in a form where keys that are equal in Python are equal. nullopt for a
// key that only equals itself, or is not compared (tuples, and objects that are no numbers).
struct OtherKey {
  Kind kind;  // none, bytes, or integer for every number
  NumberKey number;
  std::string_view text;
  auto operator<=>(const OtherKey&) const = default;
};

std::optional<OtherKey> other_key(Value key) {
  if (key.kind() == Kind::none) return OtherKey{Kind::none, {}, {}};
  if (key.kind() == Kind::bytes && !key.tensor()) return OtherKey{Kind::bytes, {}, key.text()};
  const std::optional<NumberKey> number = number_key(key);
  return number ? std::optional(OtherKey{Kind::integer, *number, {}}) : std::nullopt;
}

bool equal_keys(Value a, Value b) {
  if (a.kind() == Kind::string || b.kind() == Kind::string)
    return a.kind() == b.kind() && a.text() == b.text();
  const std::optional<OtherKey> left = other_key(a);
  return left && left == other_key(b);
}

// An array cannot be hashed. One that is an array now may have been a call when it became a key.
Result<void> check_no_array_key(Value dict) {
  const std::span<const NodeId> pairs = dict.children();
  for (std::size_t i = 0; i < pairs.size(); i += 2) {
    if (dict.node(pairs[i]).kind() == Kind::array)
      return make_error(ErrorCode::pickle_type,
                        "a key is a numpy array, expected something hashable");
  }
  return {};
}

Result<void> check_few_keys(Value dict) {
  for (std::size_t i = 1; i < dict.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      if (equal_keys(dict.key(i), dict.key(j))) return duplicate(dict.key(i));
    }
  }
  return {};
}

Result<void> check_many_keys(Value dict, std::uint64_t seed) {
  NameIndex texts(dict.size(), seed);
  std::vector<std::pair<OtherKey, std::size_t>> others;
  for (std::size_t i = 0; i < dict.size(); ++i) {
    const Value key = dict.key(i);
    if (key.kind() == Kind::string) {
      const auto text_of = [dict](std::uint32_t n) { return dict.key(n).text(); };
      if (texts.insert(key.text(), static_cast<std::uint32_t>(i), text_of)) return duplicate(key);
    } else if (const std::optional<OtherKey> other = other_key(key)) {
      others.emplace_back(*other, i);
    }
  }
  std::ranges::sort(others);
  const auto twice =
      std::ranges::adjacent_find(others, {}, &std::pair<OtherKey, std::size_t>::first);
  if (twice != others.end()) return duplicate(dict.key(twice->second));
  return {};
}

// Dicts that may have been checked already. Objects of one class have the same keys again and
// again.
class KnownKeys {
 public:
  explicit KnownKeys(const ValueTree& tree) : tree_(tree) { checked_.fill(kNoNode); }

  // Whether a dict with the same key objects in the same order was checked, or there are no keys.
  // If not, the caller must check this one.
  bool insert(Value dict) {
    const std::span<const NodeId> pairs = dict.children();
    if (pairs.empty()) return true;
    NodeId& place = checked_[(pairs[0] ^ pairs.size()) % checked_.size()];
    const std::span<const NodeId> other = tree_.value(place).children();
    bool same = pairs.size() == other.size();
    for (std::size_t i = 0; same && i < pairs.size(); i += 2) same = pairs[i] == other[i];
    place = dict.id();
    return same;
  }

 private:
  const ValueTree& tree_;
  std::array<NodeId, 64> checked_;
};

// Whether a value has anything to check. A module has a dozen empty calls of OrderedDict().
bool is_leaf(Value value) {
  switch (value.kind()) {
    case Kind::list:
    case Kind::tuple:
    case Kind::dict:
      return value.children().empty();
    case Kind::object:
      return value.is_bare_call() && value.arguments().children().empty() &&
             value.callable().kind() == Kind::global;
    case Kind::tensor:
    case Kind::array:
    case Kind::bytes:
      return false;
    default:
      return true;
  }
}

// The nodes still to visit, and those already visited.
class Walk {
 public:
  explicit Walk(const ValueTree& tree) : tree_(tree), seen_(tree.size()) {}

  void add(Value value) {
    if (is_leaf(value) || seen_[value.id()]) return;
    seen_[value.id()] = true;
    pending_.push_back(value.id());
  }

  std::optional<Value> next() {
    if (pending_.empty()) return std::nullopt;
    const Value value = tree_.value(pending_.back());
    pending_.pop_back();
    return value;
  }

 private:
  const ValueTree& tree_;
  std::vector<bool> seen_;
  std::vector<NodeId> pending_;
};

void add_children(Walk& walk, Value value) {
  for (const NodeId id : value.children()) walk.add(value.node(id));
  if (value.kind() == Kind::object) {
    walk.add(value.callable());
    walk.add(value.arguments());
    for (std::size_t i = 0, size = value.appended_size(); i < size; ++i)
      walk.add(value.appended(i));
    if (const std::optional<Value> state = value.state()) walk.add(*state);
  }
  if (value.kind() == Kind::tensor) {
    walk.add(value.node(value.attributes().quantizer));
    walk.add(value.node(value.attributes().state));
  }
}

Result<void> check_keys(Value dict, std::uint64_t seed) {
  FLATBED_TRY(check_no_array_key(dict));
  return dict.size() <= kSmallDict ? check_few_keys(dict) : check_many_keys(dict, seed);
}

}  // namespace

Result<void> check_keys(Value dict) { return check_keys(dict, random_seed()); }

Result<Reached> check_tree(const ValueTree& tree, std::size_t tensor_count) {
  Reached reached{std::vector<bool>(tensor_count), {}};
  const std::uint64_t seed = random_seed();
  Walk walk(tree);
  walk.add(tree.root());
  KnownKeys known(tree);
  while (const std::optional<Value> value = walk.next()) {
    if (const std::optional<std::uint32_t> tensor = value->tensor()) {
      if ((*tensor & kStorageFlag) != 0) {
        reached.storages.push_back(value->id());
      } else {
        reached.tensors[*tensor] = true;
      }
    }
    const bool keyed = value->kind() == Kind::dict || value->kind() == Kind::object;
    if (keyed && !known.insert(*value)) FLATBED_TRY(check_keys(*value, seed));
    add_children(walk, *value);
  }
  return reached;
}

}  // namespace flatbed::pth
