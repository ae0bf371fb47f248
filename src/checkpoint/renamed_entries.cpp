#include "checkpoint/renamed_entries.hpp"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/checked.hpp"
#include "base/str_cat.hpp"
#include "io/name_index.hpp"

namespace flatbed {

namespace {

constexpr std::size_t kMaxNamesNbytes = 100'000'000;  // more than any header holds
constexpr std::size_t kMaxEntries = 10'000'000;
constexpr std::size_t kShownNames = 4;  // in a message

// The captures as one text, which others cannot be equal to.
std::string key_of(std::span<const std::string_view> captured) {
  std::string key;
  for (const std::string_view text : captured) key += str_cat(text.size(), ":", text);
  return key;
}

std::string tensor_text(std::string_view name, const TensorInfo& info) {
  return str_cat(quoted(name), " ", flatbed::name(info.dtype), " ",
                 shape_text(info.shape.data(), info.shape.size()));
}

// The dimension that a rule means, as a number from 0 on. Errors: invalid_argument.
Result<std::size_t> dimension_of(const KeyMapAccess::Rule& rule, std::string_view name,
                                 const TensorInfo& info) {
  const auto rank = static_cast<std::int64_t>(info.shape.size());
  if (rule.dim >= -rank && rule.dim < rank)
    return static_cast<std::size_t>(rule.dim < 0 ? rule.dim + rank : rule.dim);
  return make_error(ErrorCode::invalid_argument, rule.describe(), ": there is no dimension ",
                    rule.dim, " in ", tensor_text(name, info));
}

// Lists names for a message.
class NameList {
 public:
  void add(std::string_view name) {
    if (count_++ < kShownNames) text_ += str_cat(text_.empty() ? "" : ", ", quoted(name));
  }
  [[nodiscard]] std::string text() const {
    return count_ <= kShownNames ? text_ : str_cat(text_, " and ", count_ - kShownNames, " more");
  }

 private:
  std::string text_;
  std::size_t count_ = 0;
};

}  // namespace

RenamedEntries::RenamedEntries(const State& from, const KeyMap& map, FusedState& to)
    : from_(from),
      to_(to),
      rules_(KeyMapAccess::rules(map)),
      mapper_(map),
      arrivals_(rules_.size()) {}

Result<void> RenamedEntries::run() {
  const std::size_t count = from_.tensors.size() + from_.aliases.size();
  entries_.resize(count);
  names_.reserve(count);
  for (const TensorInfo& tensor : from_.tensors) entries_[tensor.index].node = tensor.index;
  for (std::size_t i = 0; i < from_.aliases.size(); ++i) {
    const TensorInfo* target = from_.find_tensor(from_.aliases[i].target);
    if (target != nullptr) entries_[from_.tensors.size() + i].node = target->index;
  }
  for (std::uint32_t i = 0; i < count; ++i) FLATBED_TRY(pass(i, from_.name_of(i), 0));
  for (std::size_t i = 0; i < rules_.size(); ++i) {
    Arrivals arrivals = std::move(arrivals_[i]);
    if (rules_[i]->kind == Rule::Kind::cat) {
      FLATBED_TRY(join_all(i, std::move(arrivals)));
    } else {
      for (const Waiting& one : arrivals.list) FLATBED_TRY(split(i, one, arrivals.names[one.name]));
    }
  }
  FLATBED_TRY(pass_missing());
  return mapper_.check_matched();
}

// `nbytes` is of all names before this one.
Result<void> RenamedEntries::count_name(std::string_view name, std::size_t& nbytes) {
  nbytes += name.size();
  if (nbytes <= kMaxNamesNbytes) return {};
  return make_error(ErrorCode::limit_exceeded, "the new names have more than ", kMaxNamesNbytes,
                    " bytes together");
}

// Runs a name from `rule` on. It becomes final, or waits at a rule.
Result<void> RenamedEntries::pass(std::uint32_t entry, std::string_view name, std::size_t rule) {
  FLATBED_ASSIGN(const KeyMapper::Stop stop, mapper_.run(name, rule));
  if (stop.rule == rules_.size() || entries_[entry].node == kNone) {
    FLATBED_TRY(count_name(stop.name, nbytes_));
    entries_[entry].name = static_cast<std::uint32_t>(names_.size());
    names_.add(stop.name);
    return {};
  }
  FLATBED_TRY(count_name(stop.name, waiting_nbytes_));
  Arrivals& arrivals = arrivals_[stop.rule];
  arrivals.list.push_back({entry, static_cast<std::uint32_t>(stop.glob),
                           static_cast<std::uint32_t>(arrivals.names.size()), 0});
  arrivals.names.add(stop.name);
  return {};
}

// Tensors that the index lists in files without them stay missing, also where a rule would join or
// split them.
Result<void> RenamedEntries::pass_missing() {
  for (const auto& [name, file] : from_.missing) {
    FLATBED_ASSIGN(const KeyMapper::Stop stop, mapper_.run(name));
    FLATBED_TRY(count_name(stop.name, nbytes_));
    to_.missing.emplace(stop.name, file);
  }
  return {};
}

// ---- joins --------------------------------------------------------------------------------------

Result<void> RenamedEntries::join_all(std::size_t rule, Arrivals arrivals) {
  FLATBED_TRY(group(*rules_[rule], arrivals));
  const std::span<const Waiting> all = arrivals.list;
  for (std::size_t begin = 0; begin < all.size();) {
    std::size_t end = begin;
    while (end < all.size() && all[end].group == all[begin].group) ++end;
    const std::span<const Waiting> one = all.subspan(begin, end - begin);
    FLATBED_TRY(check_group(*rules_[rule], arrivals, one));
    FLATBED_TRY(join(rule, arrivals, one));
    begin = end;
  }
  return {};
}

// Sorts what has arrived by its captures, and then by parts. Groups are in the order of arrival.
Result<void> RenamedEntries::group(const Rule& rule, Arrivals& arrivals) {
  TextList keys;
  NameIndex index(arrivals.list.size() / rule.olds.size());
  const auto key = [&](std::uint32_t number) { return keys[number]; };
  for (Waiting& one : arrivals.list) {
    const std::string_view name = arrivals.names[one.name];
    for (std::size_t other = one.glob + 1; other < rule.olds.size(); ++other) {
      if (!rule.olds[other].match(name, captured_)) continue;
      return make_error(ErrorCode::invalid_argument, rule.describe(), ": ", quoted(name),
                        " matches two parts, number ", one.glob + 1, " and ", other + 1);
    }
    static_cast<void>(rule.olds[one.glob].match(name, captured_));
    const std::string text = key_of(captured_);
    const auto next = static_cast<std::uint32_t>(keys.size());
    const std::optional<std::uint32_t> known = index.insert(text, next, key);
    if (!known) keys.add(text);
    one.group = known.value_or(next);
  }
  std::ranges::stable_sort(arrivals.list, {},
                           [](const Waiting& one) { return std::pair(one.group, one.glob); });
  return {};
}

// Whether a group has one tensor of each part, and they can be joined.
Result<void> RenamedEntries::check_group(const Rule& rule, const Arrivals& arrivals,
                                         std::span<const Waiting> group) {
  std::size_t first = 0;  // parts that are there once, one after the other
  while (first < group.size() && group[first].glob == first) ++first;
  if (first == rule.olds.size() && first == group.size()) return {};
  static_cast<void>(rule.olds[group[0].glob].match(arrivals.names[group[0].name], captured_));
  NameList found;
  NameList missing;
  std::size_t next = 0;
  for (std::size_t part = 0; part < rule.olds.size(); ++part) {
    const bool there = next < group.size() && group[next].glob == part;
    there ? found.add(arrivals.names[group[next].name])
          : missing.add(rule.olds[part].text_with(captured_));
    if (there) ++next;
    if (there && next < group.size() && group[next].glob == part) {
      return make_error(ErrorCode::name_collision, rule.describe(), ": two tensors are called ",
                        quoted(arrivals.names[group[next].name]));
    }
  }
  return make_error(ErrorCode::tensor_not_found, rule.describe(),
                    " joins tensors that are not all there: found ", found.text(), "; missing ",
                    missing.text());
}

namespace {

// Whether two tensors can be joined; what they differ in otherwise.
std::optional<std::string> difference(const TensorInfo& a, const TensorInfo& b, std::size_t dim) {
  if (a.dtype != b.dtype) return "their dtypes differ";
  if (a.shape.size() != b.shape.size()) return "their numbers of dimensions differ";
  for (std::size_t i = 0; i < a.shape.size(); ++i) {
    if (i != dim && a.shape[i] != b.shape[i]) return str_cat("they differ in dimension ", i);
  }
  return std::nullopt;
}

}  // namespace

Result<void> RenamedEntries::join(std::size_t number, const Arrivals& arrivals,
                                  std::span<const Waiting> group) {
  const Rule& rule = *rules_[number];
  const std::string_view first_name = arrivals.names[group[0].name];
  const TensorInfo& first = to_.info(entries_[group[0].entry].node);
  FLATBED_ASSIGN(const std::size_t dim, dimension_of(rule, first_name, first));
  std::vector<FusedState::Part> parts;
  std::uint32_t earliest = group[0].entry;
  for (const Waiting& one : group) {
    const Node node = entries_[one.entry].node;
    const TensorInfo& info = to_.info(node);
    if (const auto differs = difference(first, info, dim)) {
      return make_error(ErrorCode::invalid_argument, rule.describe(), ": ",
                        tensor_text(first_name, first), " and ",
                        tensor_text(arrivals.names[one.name], info),
                        " cannot be joined along dimension ", dim, ": ", *differs);
    }
    parts.push_back({node, 0, info.shape[dim]});
    if (comes_before(one.entry, earliest)) earliest = one.entry;
  }
  static_cast<void>(rule.olds[0].match(first_name, captured_));
  FLATBED_ASSIGN(const std::string_view name, mapper_.name_of(rule, 0, first_name, captured_));
  const std::string made(name);
  const Result<Node> node = add_node(dim, parts);
  if (!node) return with_context(str_cat(rule.describe(), ": ", quoted(made)), node.error());
  FLATBED_ASSIGN(const std::uint32_t entry, add_entries(earliest, 1));
  entries_[entry].node = *node;
  return pass(entry, made, number + 1);
}

// ---- splits -------------------------------------------------------------------------------------

Result<void> RenamedEntries::split(std::size_t number, const Waiting& whole,
                                   std::string_view name) {
  const Rule& rule = *rules_[number];
  const Node node = entries_[whole.entry].node;
  FLATBED_ASSIGN(const std::size_t dim, dimension_of(rule, name, to_.info(node)));
  const std::uint64_t size = to_.info(node).shape[dim];
  std::optional<std::uint64_t> sum = 0;
  for (const std::uint64_t one : rule.sizes) sum = sum ? checked_add(*sum, one) : sum;
  if (sum != size) {
    return make_error(ErrorCode::invalid_argument, rule.describe(), ": ",
                      tensor_text(name, to_.info(node)), " cannot be split along dimension ", dim,
                      ": the sizes add up to ", sum ? str_cat(*sum) : "more than 2^64",
                      ", expected ", size);
  }
  FLATBED_ASSIGN(const std::uint32_t first, add_entries(whole.entry, rule.sizes.size()));
  std::uint64_t at = 0;
  for (std::uint32_t i = 0; i < rule.sizes.size(); ++i) {
    const FusedState::Part part{node, at, at + rule.sizes[i]};
    at = part.end;
    const Result<Node> made = add_node(dim, {&part, 1});
    if (!made) return with_context(str_cat(rule.describe(), ": ", quoted(name)), made.error());
    entries_[first + i].node = *made;
    static_cast<void>(rule.olds[0].match(name, captured_));
    FLATBED_ASSIGN(const std::string_view called, mapper_.name_of(rule, i, name, captured_));
    FLATBED_TRY(pass(first + i, std::string(called), number + 1));
  }
  return {};
}

// ---- what both make -----------------------------------------------------------------------------

Result<RenamedEntries::Node> RenamedEntries::add_node(std::size_t dim,
                                                      std::span<const FusedState::Part> parts) {
  if (from_.aliases.empty()) return to_.add(dim, parts);
  std::vector<std::uint64_t> key{dim};
  for (const FusedState::Part& part : parts)
    key.insert(key.end(), {part.node, part.begin, part.end});
  const auto known = known_.find(key);
  if (known != known_.end()) return known->second;
  FLATBED_ASSIGN(const Node node, to_.add(dim, parts));
  known_.emplace(std::move(key), node);
  return node;
}

// New entries in the place of `parent`.
Result<std::uint32_t> RenamedEntries::add_entries(std::uint32_t parent, std::size_t count) {
  if (count > kMaxEntries - std::min(kMaxEntries, entries_.size())) {
    return make_error(ErrorCode::limit_exceeded, "the rename rules make more than ", kMaxEntries,
                      " tensors");
  }
  const auto first = static_cast<std::uint32_t>(entries_.size());
  entries_.resize(entries_.size() + count);
  entries_[parent].first_child = first;
  entries_[parent].children = static_cast<std::uint32_t>(count);
  for (std::size_t i = first; i < entries_.size(); ++i) entries_[i].parent = parent;
  return first;
}

// The place of an entry: of its first ancestor among all, and then of each one among its siblings.
std::vector<std::uint32_t> RenamedEntries::path(std::uint32_t entry) const {
  std::vector<std::uint32_t> path;
  for (; entries_[entry].parent != kNone; entry = entries_[entry].parent)
    path.push_back(entry - entries_[entries_[entry].parent].first_child);
  path.push_back(entry);
  std::ranges::reverse(path);
  return path;
}

bool RenamedEntries::comes_before(std::uint32_t a, std::uint32_t b) const {
  const bool listed = entries_[a].parent == kNone && entries_[b].parent == kNone;  // the usual case
  return listed ? a < b : path(a) < path(b);
}

// ---- the end ------------------------------------------------------------------------------------

std::uint32_t RenamedEntries::origin(std::uint32_t entry) const {
  while (entries_[entry].parent != kNone) entry = entries_[entry].parent;
  return entry;
}

// The entries that have a name.
std::vector<std::uint32_t> RenamedEntries::final_order() const {
  std::vector<std::uint32_t> order;
  std::vector<std::uint32_t> stack;
  const std::size_t count = from_.tensors.size() + from_.aliases.size();
  order.reserve(count);
  for (std::uint32_t i = 0; i < count; ++i) {
    stack.push_back(i);
    while (!stack.empty()) {
      const std::uint32_t number = stack.back();
      const Entry& entry = entries_[number];
      stack.pop_back();
      if (entry.name != kNone) order.push_back(number);
      for (std::uint32_t child = entry.children; child-- > 0;)
        stack.push_back(entry.first_child + child);
    }
  }
  return order;
}

std::vector<std::uint32_t> RenamedEntries::finish() {
  const TextList& names = to_.own(std::move(names_));
  std::vector<std::uint32_t> origins;
  std::vector<std::uint32_t> of_aliases;
  std::vector<std::uint32_t> taken;  // for each node the number of its tensor
  const std::vector<std::uint32_t> order = final_order();
  to_.reserve(order.size());
  for (const std::uint32_t number : order) {
    const Entry& entry = entries_[number];
    const std::string_view name = names[entry.name];
    if (entry.node == kNone) {
      to_.aliases.push_back(
          {std::string(name), from_.aliases[number - from_.tensors.size()].target});
      of_aliases.push_back(number);
      continue;
    }
    if (entry.node >= taken.size()) taken.resize(entry.node + from_.tensors.size() + 1, kNone);
    std::uint32_t& tensor = taken[entry.node];
    if (tensor != kNone) {
      to_.aliases.push_back({std::string(name), std::string(to_.tensors[tensor].name)});
      of_aliases.push_back(origin(number));
      continue;
    }
    tensor = static_cast<std::uint32_t>(to_.tensors.size());
    to_.take(entry.node, name);
    origins.push_back(origin(number));
  }
  origins.insert(origins.end(), of_aliases.begin(), of_aliases.end());
  return origins;
}

}  // namespace flatbed
