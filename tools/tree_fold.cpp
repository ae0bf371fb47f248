#include "tree_fold.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <string_view>
#include <utility>

#include "flatbed/torch_module.hpp"
#include "format_text.hpp"

namespace flatbed::tool {
namespace {

constexpr std::size_t kMinRun = 3;
constexpr std::size_t kLongDict = 24;     // a longer dict of tensors is folded by name
constexpr int kMaxLevels = 12;            // levels that are compared
constexpr std::size_t kMaxCompared = 64;  // entries of a container that are compared

bool is_number(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

void mix(std::uint64_t& hash, std::uint64_t value) {
  hash = (hash ^ value) * 0x9E3779B97F4A7C15U;
  hash ^= hash >> 29;
}

void mix(std::uint64_t& hash, std::string_view text) {
  mix(hash, std::hash<std::string_view>()(text));
}

bool is_container(Kind kind) {
  return kind == Kind::list || kind == Kind::tuple || kind == Kind::dict || kind == Kind::object;
}

void add_named(std::vector<Entry>& out, Value dict) {
  for (std::size_t i = 0; i < dict.size(); ++i) {
    if (dict.item(i).kind() == Kind::none) continue;
    const bool text = dict.key(i).kind() == Kind::string;
    out.push_back({text ? safe_text(dict.key(i).text()) : fmt::format("{}", i), dict.item(i)});
  }
}

// Whether a user gave the attribute to a module: torch's own begin with "_", except "training".
void add_attributes(std::vector<Entry>& out, Value attributes) {
  for (std::size_t i = 0; i < attributes.size(); ++i) {
    const Value key = attributes.key(i);
    if (key.kind() != Kind::string || key.text().starts_with('_') || key.text() == "training")
      continue;
    out.push_back({safe_text(key.text()), attributes.item(i)});
  }
}

// Whether an object's state holds only the modules' versions, as in every state_dict().
bool has_versions_only(Value object) {
  const std::optional<Value> state = object.state();
  return state && state->kind() == Kind::dict && state->size() == 1 &&
         state->key(0).text() == "_metadata";
}

// Names that differ only in numbers: "layers.0.weight", "layers.1.weight".
struct NameGroup {
  std::size_t first = 0;  // index of the first entry
  std::uint64_t count = 0;
  bool equal = true;
  std::string text;  // text of the first entry
  std::vector<std::string> parts;
  // One for each part that is a number.
  std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges;
};

std::vector<std::string> split(std::string_view name) {
  std::vector<std::string> parts(1);
  for (const char c : name) {
    if (c == '.') {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

std::string pattern_of(const std::vector<std::string>& parts) {
  std::string pattern;
  for (const std::string& part : parts) pattern += (is_number(part) ? "\n" : part) + ".";
  return pattern;
}

std::uint64_t number_of(const std::string& digits) {
  std::uint64_t number = 0;
  for (const char c : digits.substr(0, 18)) number = number * 10 + static_cast<unsigned>(c - '0');
  return number;
}

void widen(NameGroup& group, const std::vector<std::string>& parts) {
  std::size_t at = 0;
  for (const std::string& part : parts) {
    if (!is_number(part)) continue;
    const std::uint64_t number = number_of(part);
    if (at == group.ranges.size()) group.ranges.emplace_back(number, number);
    auto& [low, high] = group.ranges[at++];
    low = std::min(low, number);
    high = std::max(high, number);
  }
}

std::string label_of(const NameGroup& group) {
  std::string label;
  std::size_t at = 0;
  for (const std::string& part : group.parts) {
    if (!label.empty()) label += '.';
    if (!is_number(part)) {
      label += part;
      continue;
    }
    const auto [low, high] = group.ranges[at++];
    label += low == high ? part : fmt::format("{{{}…{}}}", low, high);
  }
  return label;
}

}  // namespace

std::vector<Entry> TreeFolder::entries_of(Value container) {
  std::vector<Entry> all = all_entries(container);
  for (Entry& entry : all) {
    const Value value = config_value(entry.value);
    left_out_ = left_out_ || value.id() != entry.value.id();
    entry.value = value;
  }
  return all;
}

std::vector<Entry> TreeFolder::all_entries(Value container) const {
  const std::optional<TorchModule> module = TorchModule::of(container);
  if (!module) {
    std::vector<Entry> all = entries(container);
    if (has_versions_only(container)) all.pop_back();
    return all;
  }
  std::vector<Entry> out;
  if (module->wrapped()) out.push_back({std::string(kWrappedModule), *module->wrapped()});
  add_named(out, module->parameters());
  add_named(out, module->buffers());
  add_named(out, module->children());
  if (top_.contains(container.id())) add_attributes(out, module->attributes());
  return out;
}

std::vector<FoldedEntry> TreeFolder::fold(Value container) {
  const std::vector<Entry> all = entries_of(container);
  const auto tensors = std::ranges::count_if(
      all, [](const Entry& entry) { return entry.value.kind() == Kind::tensor; });
  const bool names = container.kind() == Kind::dict || container.kind() == Kind::object;
  if (names && std::cmp_greater(tensors, kLongDict)) return fold_names(all);
  return fold_runs(all, TorchModule::of(container).has_value());
}

// Whether a container needs lines of its own.
bool TreeFolder::is_long(Value value) const {
  return is_container(value.kind()) &&
         (TorchModule::of(value).has_value() || !inline_text(value, context_));
}

// The text that similar entries share: names, classes and dtypes, but no sizes or values. Recursion
// ends at kMaxLevels.
std::uint64_t TreeFolder::signature(Value value, int levels) {
  std::uint64_t hash = static_cast<std::uint64_t>(value.kind()) + 1;
  if (value.kind() == Kind::tensor) {
    const std::optional<std::uint32_t> tensor = value.tensor();
    if (tensor && *tensor < context_.tensors.size())
      mix(hash, name(context_.tensors[*tensor].dtype));
    return hash;
  }
  if (!is_container(value.kind()) || levels == 0) return hash;
  const auto [known, is_new] = signatures_.emplace(value.id(), hash);
  if (!is_new) return known->second;  // an id that is still open means a cycle
  if (value.kind() == Kind::object) mix(hash, class_name(value));
  const std::vector<Entry> all = entries_of(value);
  mix(hash, all.size());
  for (std::size_t i = 0; i < std::min(all.size(), kMaxCompared); ++i) {
    mix(hash, all[i].label);
    mix(hash, signature(all[i].value, levels - 1));
  }
  signatures_[value.id()] = hash;
  return hash;
}

std::vector<FoldedEntry> TreeFolder::fold_runs(const std::vector<Entry>& all, bool in_module) {
  const auto label = [&](std::size_t i) {
    std::string_view text = all[i].label;
    if (text.size() > 2 && text.starts_with('\'')) text = text.substr(1, text.size() - 2);
    return text;
  };
  std::vector<FoldedEntry> out;
  for (std::size_t i = 0; i < all.size();) {
    std::size_t end = i + 1;
    if (is_number(label(i)) && is_long(all[i].value)) {
      const std::uint64_t like = signature(all[i].value, kMaxLevels);
      while (end < all.size() && is_number(label(end)) && is_container(all[end].value.kind()) &&
             signature(all[end].value, kMaxLevels) == like)
        ++end;
    }
    if (end - i < kMinRun) end = i + 1;
    const std::string text =
        end == i + 1 ? all[i].label : fmt::format("{} … {}", label(i), label(end - 1));
    out.push_back({text, all[i].value, end - i, true, in_module});
    i = end;
  }
  return out;
}

std::vector<FoldedEntry> TreeFolder::fold_names(const std::vector<Entry>& all) const {
  std::map<std::string, std::size_t> index;
  std::vector<NameGroup> groups;
  for (std::size_t i = 0; i < all.size(); ++i) {
    std::string_view name = all[i].label;
    if (name.size() > 2 && name.starts_with('\'')) name = name.substr(1, name.size() - 2);
    std::vector<std::string> parts = split(name);
    if (all[i].value.kind() != Kind::tensor) {
      groups.push_back({i, 1, true, {}, {}, {}});
      continue;
    }
    const auto [place, is_new] = index.emplace(pattern_of(parts), groups.size());
    const std::string text = inline_text(all[i].value, context_).value_or("");
    if (is_new) groups.push_back({i, 0, true, text, parts, {}});
    NameGroup& group = groups[place->second];
    group.count += 1;
    group.equal = group.equal && text == group.text;
    widen(group, parts);
  }
  std::vector<FoldedEntry> out;
  for (const NameGroup& group : groups) {
    const bool one = group.count == 1;
    out.push_back({one ? all[group.first].label : label_of(group), all[group.first].value,
                   group.count, group.equal, false});
  }
  return out;
}

}  // namespace flatbed::tool
