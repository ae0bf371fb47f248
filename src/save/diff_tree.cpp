#include "save/diff_tree.hpp"

#include <algorithm>
#include <iterator>
#include <map>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/str_cat.hpp"
#include "value/key_text.hpp"

namespace flatbed {

namespace {

// Two nodes at one place.
struct Pair {
  std::string path;
  Value a;
  Value b;
};

std::string path_below(const std::string& path, std::string_view step) {
  return path.empty() ? std::string(step) : str_cat(path, ".", step);
}

// What a container's entry is called: the key's text or, without one, its place.
std::string label(Value key, std::size_t index) {
  if (std::optional<std::string> text = key_text(key)) return *std::move(text);
  return str_cat(index);
}

bool is_leaf(Kind kind) {
  switch (kind) {
    case Kind::list:
    case Kind::tuple:
    case Kind::dict:
    case Kind::object:
      return false;
    default:
      return true;
  }
}

bool same_text(Value a, Value b) { return a.text() == b.text(); }

// NaN equals NaN here: nothing has changed.
bool same_real(Value a, Value b) {
  const double x = *a.as_real(), y = *b.as_real();
  return x == y || (x != x && y != y);
}

// Numbers of nodes are those of one tree, and numbers of tensors those of one file.
bool same_attributes(const TensorAttributes& a, const TensorAttributes& b) {
  return a.requires_grad == b.requires_grad && a.parameter == b.parameter && a.device == b.device &&
         a.dtype == b.dtype;
}

bool same_leaf(Value a, Value b) {
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::none:
      return true;
    case Kind::boolean:
      return a.as_bool() == b.as_bool();
    case Kind::integer:
      return a.as_int() == b.as_int();
    case Kind::real:
      return same_real(a, b);
    case Kind::big_integer:
    case Kind::string:
    case Kind::array:
      return same_text(a, b);
    case Kind::bytes:
      return a.tensor().has_value() == b.tensor().has_value() && same_text(a, b);
    case Kind::global:
      return same_text(a, b) && a.qualname() == b.qualname();
    case Kind::scalar:
      return same_text(a, b) && a.raw() == b.raw();
    case Kind::tensor:
      return same_attributes(a.attributes(), b.attributes());
    default:
      return true;
  }
}

class TreeComparison {
 public:
  explicit TreeComparison(DiffReport& report) : report_(report) {}

  void run(Value a, Value b) {
    waiting_.push_back({"", a, b});
    while (!waiting_.empty() && report_.tree_complete) {
      const Pair pair = std::move(waiting_.back());
      waiting_.pop_back();
      below_.clear();
      compare(pair);
      // In the order of the first tree: what was found last is looked at last.
      std::ranges::move(below_.rbegin(), below_.rend(), std::back_inserter(waiting_));
    }
  }

 private:
  void add(std::string path, std::optional<Value> a, std::optional<Value> b) {
    if (report_.tree.size() == kMaxTreeDifferences) {
      report_.tree_complete = false;
      return;
    }
    report_.tree.push_back({std::move(path), a, b});
  }

  void compare(const Pair& pair) {
    const auto& [path, a, b] = pair;
    if (a.kind() != b.kind() || is_leaf(a.kind())) {
      if (!same_leaf(a, b)) add(path, a, b);
      return;
    }
    if (!seen_.insert(std::uint64_t{a.id()} << 32 | b.id()).second) return;
    if (a.kind() == Kind::object) return compare_objects(pair);
    if (a.kind() == Kind::dict) return compare_pairs(pair);
    compare_lists(path, a.items(), b.items());
  }

  void compare_objects(const Pair& pair) {
    const auto& [path, a, b] = pair;
    below_.push_back({path_below(path, "callable"), a.callable(), b.callable()});
    below_.push_back({path_below(path, "arguments"), a.arguments(), b.arguments()});
    const std::size_t common = std::min(a.appended_size(), b.appended_size());
    for (std::size_t i = 0; i < std::max(a.appended_size(), b.appended_size()); ++i) {
      std::string place = path_below(path, str_cat(i));
      if (i < common) {
        below_.push_back({std::move(place), a.appended(i), b.appended(i)});
      } else if (i < a.appended_size()) {
        add(std::move(place), a.appended(i), std::nullopt);
      } else {
        add(std::move(place), std::nullopt, b.appended(i));
      }
    }
    compare_pairs(pair);
    compare_states(path, a.state(), b.state());
  }

  // As in Value::at(), a state adds nothing to the path.
  void compare_states(const std::string& path, std::optional<Value> a, std::optional<Value> b) {
    if (a && b) {
      below_.push_back({path, *a, *b});
    } else if (a || b) {
      add(path, a, b);
    }
  }

  void compare_lists(const std::string& path, ValueRange<Value> a, ValueRange<Value> b) {
    auto in_b = b.begin();
    std::size_t index = 0;
    for (const Value item : a) {
      std::string place = path_below(path, str_cat(index++));
      if (in_b == b.end()) {
        add(std::move(place), item, std::nullopt);
      } else {
        below_.push_back({std::move(place), item, *in_b});
        ++in_b;
      }
    }
    for (; in_b != b.end(); ++in_b) add(path_below(path, str_cat(index++)), std::nullopt, *in_b);
  }

  // Pairs are found by their keys; their order is not compared. Of keys of the same text and kind,
  // such as two NaN, the first belongs to the first.
  void compare_pairs(const Pair& pair) {
    using Key = std::pair<std::string, Kind>;
    std::multimap<Key, std::size_t> in_b;  // the numbers of the pairs
    const auto key_of = [](Value of, std::size_t number) {
      return Key(label(of.key(number), number), of.key(number).kind());
    };
    for (std::size_t i = 0; i < pair.b.size(); ++i) in_b.emplace(key_of(pair.b, i), i);
    for (std::size_t i = 0; i < pair.a.size(); ++i) {
      const Key key = key_of(pair.a, i);
      const auto found = in_b.lower_bound(key);
      if (found == in_b.end() || found->first != key) {
        add(path_below(pair.path, key.first), pair.a.item(i), std::nullopt);
        continue;
      }
      below_.push_back(
          {path_below(pair.path, key.first), pair.a.item(i), pair.b.item(found->second)});
      in_b.erase(found);
    }
    std::map<std::size_t, const std::string*> added;  // in the order of the second tree
    for (const auto& [key, number] : in_b) added.emplace(number, &key.first);
    for (const auto& [number, text] : added)
      add(path_below(pair.path, *text), std::nullopt, pair.b.item(number));
  }

  DiffReport& report_;
  std::vector<Pair> waiting_;
  std::vector<Pair> below_;  // entries of the pair that is being compared
  std::unordered_set<std::uint64_t> seen_;
};

}  // namespace

void compare_trees(Value a, Value b, DiffReport& report) { TreeComparison(report).run(a, b); }

}  // namespace flatbed
