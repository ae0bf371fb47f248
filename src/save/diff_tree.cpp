#include "save/diff_tree.hpp"

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/str_cat.hpp"
#include "value/key_text.hpp"

namespace flatbed {

namespace {

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

// Which pairs of two dicts, or of two objects, have the same key. Of keys of the same text and
// kind, such as two NaN, the first belongs to the first.
class PairedKeys {
 public:
  static constexpr std::size_t kNone = ~std::size_t{0};

  PairedKeys(Value a, Value b) : common_(first_other_key(a, b)), size_a_(a.size()) {
    if (common_ == a.size() && common_ == b.size()) return;
    std::multimap<Key, std::size_t> left;  // of b: the numbers of the pairs
    for (std::size_t i = common_; i < b.size(); ++i) left.emplace(key_of(b, i), i);
    for (std::size_t i = common_; i < a.size(); ++i) {
      const Key key = key_of(a, i);
      const auto found = left.lower_bound(key);
      const bool is_there = found != left.end() && found->first == key;
      in_b_.push_back(is_there ? found->second : kNone);
      if (is_there) left.erase(found);
    }
    for (const auto& [key, number] : left) added_.push_back(number);
    std::ranges::sort(added_);
  }

  // The pairs of a, then those that only b has.
  [[nodiscard]] std::size_t count() const noexcept { return size_a_ + added_.size(); }
  [[nodiscard]] std::size_t in_a(std::size_t i) const noexcept { return i < size_a_ ? i : kNone; }
  [[nodiscard]] std::size_t in_b(std::size_t i) const noexcept {
    if (i >= size_a_) return added_[i - size_a_];
    return i < common_ ? i : in_b_[i - common_];
  }

 private:
  using Key = std::pair<std::string, Kind>;
  static Key key_of(Value of, std::size_t number) {
    return Key(label(of.key(number), number), of.key(number).kind());
  }
  // Usually all keys are the same, in the same order.
  static std::size_t first_other_key(Value a, Value b) {
    const std::size_t both = std::min(a.size(), b.size());
    std::size_t i = 0;
    while (i < both && key_of(a, i) == key_of(b, i)) ++i;
    return i;
  }

  std::size_t common_;  // so many pairs at the beginning have the same keys
  std::size_t size_a_;
  std::vector<std::size_t> in_b_;  // for each pair of a after those
  std::vector<std::size_t> added_;
};

// The entries of two containers of one kind, those of the first in its order, then those that only
// the second has. Of an object: callable, arguments, what was appended, pairs, state.
class Entries {
 public:
  struct Entry {
    std::optional<Value> a, b;  // at least one
  };

  Entries(Value a, Value b) : a_(a), b_(b) {
    if (a.kind() == Kind::dict || a.kind() == Kind::object)
      keys_ = std::make_unique<PairedKeys>(a, b);
    items_ = a.kind() == Kind::object ? std::max(a.appended_size(), b.appended_size())
             : keys_                  ? 0
                                      : std::max(a.size(), b.size());
  }

  [[nodiscard]] std::size_t count() const {
    const bool has_state = is_object() && (a_.state() || b_.state());
    return calls() + items_ + pairs() + (has_state ? 1 : 0);
  }

  [[nodiscard]] Entry operator[](std::size_t i) const {
    if (i < calls())
      return i == 0 ? Entry{a_.callable(), b_.callable()} : Entry{a_.arguments(), b_.arguments()};
    i -= calls();
    if (i < items_) return {item(a_, i), item(b_, i)};
    i -= items_;
    if (i == pairs()) return {a_.state(), b_.state()};
    return {pair(a_, keys_->in_a(i)), pair(b_, keys_->in_b(i))};
  }

  // Empty for the state: as in Value::at(), it adds nothing to the path.
  [[nodiscard]] std::optional<std::string> step(std::size_t i) const {
    if (i < calls()) return i == 0 ? "callable" : "arguments";
    i -= calls();
    if (i < items_) return str_cat(i);
    i -= items_;
    if (i == pairs()) return std::nullopt;
    const std::size_t in_a = keys_->in_a(i), in_b = keys_->in_b(i);
    return in_a != PairedKeys::kNone ? label(a_.key(in_a), in_a) : label(b_.key(in_b), in_b);
  }

 private:
  [[nodiscard]] bool is_object() const { return a_.kind() == Kind::object; }
  [[nodiscard]] std::size_t calls() const { return is_object() ? 2 : 0; }
  [[nodiscard]] std::size_t pairs() const { return keys_ ? keys_->count() : 0; }
  [[nodiscard]] std::optional<Value> item(Value of, std::size_t i) const {
    if (is_object()) return i < of.appended_size() ? std::optional(of.appended(i)) : std::nullopt;
    return i < of.size() ? std::optional(of.item(i)) : std::nullopt;
  }
  [[nodiscard]] static std::optional<Value> pair(Value of, std::size_t i) {
    return i == PairedKeys::kNone ? std::nullopt : std::optional(of.item(i));
  }

  Value a_;
  Value b_;
  std::unique_ptr<PairedKeys> keys_;  // of a dict or an object
  std::size_t items_;
};

// Memory grows with the depth of the trees and the number of pairs of containers, not with the
// number of values.
class TreeComparison {
 public:
  explicit TreeComparison(DiffReport& report) : report_(report) {}

  Result<void> run(Value a, Value b) {
    FLATBED_TRY(compare(a, b));
    while (!open_.empty() && report_.tree_complete) {
      const std::size_t i = open_.back().next++;
      path_.resize(open_.back().path_nbytes);
      if (i == open_.back().entries.count()) {
        open_.pop_back();
      } else {
        FLATBED_TRY(compare_entry(open_.back().entries, i));
      }
    }
    return {};
  }

 private:
  // Containers whose entries are being compared.
  struct Open {
    Entries entries;
    std::size_t path_nbytes;
    std::size_t next = 0;
  };

  Result<void> compare_entry(const Entries& entries, std::size_t i) {
    if (++entries_ > kMaxTreeEntries) return too_many();
    const auto [a, b] = entries[i];
    if (a && b && !is_container_pair(*a, *b) && same_leaf(*a, *b)) return {};
    if (const std::optional<std::string> step = entries.step(i)) {
      if (!path_.empty()) path_ += '.';
      path_ += *step;
    }
    if (a && b) return compare(*a, *b);
    add(a, b);
    return {};
  }

  // The values at path_.
  Result<void> compare(Value a, Value b) {
    if (!is_container_pair(a, b)) {
      if (!same_leaf(a, b)) add(a, b);
      return {};
    }
    if (!seen_.insert(std::uint64_t{a.id()} << 32 | b.id()).second) return {};
    if (seen_.size() > kMaxContainerPairs) return too_many();
    open_.push_back({Entries(a, b), path_.size()});
    return {};
  }

  static bool is_container_pair(Value a, Value b) {
    return a.kind() == b.kind() && !is_leaf(a.kind());
  }

  static Error too_many() {
    return make_error(ErrorCode::limit_exceeded,
                      "the structures refer to the same containers from too many places to be "
                      "compared");
  }

  void add(std::optional<Value> a, std::optional<Value> b) {
    path_nbytes_ += path_.size();
    if (report_.tree.size() == kMaxTreeDifferences || path_nbytes_ > kMaxTreePathNbytes) {
      report_.tree_complete = false;
      return;
    }
    report_.tree.push_back({path_, a, b});
  }

  DiffReport& report_;
  std::vector<Open> open_;
  std::string path_;
  std::unordered_set<std::uint64_t> seen_;
  std::uint64_t entries_ = 0;
  std::uint64_t path_nbytes_ = 0;  // of all differences
};

}  // namespace

Result<void> compare_trees(Value a, Value b, DiffReport& report) {
  return TreeComparison(report).run(a, b);
}

}  // namespace flatbed
