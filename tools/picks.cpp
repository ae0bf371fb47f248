#include "picks.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>
#include <string_view>

#include "flatbed/torch_module.hpp"
#include "format_text.hpp"
#include "value_text.hpp"

namespace flatbed::tool {
namespace {

// An averaged model comes before the one it averages, as in timm, Ultralytics and Real-ESRGAN.
constexpr std::array<std::string_view, 11> kNames{
    "state_dict_ema", "model_ema",  "ema",    "params_ema",
    "ema_state_dict", "state_dict", "params", "model_state_dict",
    "model",          "module",     "net"};
constexpr std::size_t kMaxLevels = 3;
constexpr std::size_t kMaxVisits = 20'000;
constexpr std::size_t kMaxItems = 64;  // of a list that is searched
constexpr std::size_t kShown = 6;
// Limit on the entries of all state dicts together. One state dict may appear under many names, and
// one that cannot be built counts as much as the attempt may cost.
constexpr std::size_t kMaxEntries = 5'000'000;
constexpr std::size_t kFailedEntries = kMaxEntries / 4;

struct Place {
  Value value;
  std::string path;
  std::size_t level = 0;
};

bool holds_pairs(Value value) { return value.kind() == Kind::dict || value.kind() == Kind::object; }

std::size_t rank(std::string_view name) {
  return static_cast<std::size_t>(std::ranges::find(kNames, name) - kNames.begin());
}

// A state dict has text keys and tensors only. Outside the usual places, a key must also look like
// a weight's name.
bool is_state_dict(Value value, std::string_view name) {
  if (!holds_pairs(value) || value.size() == 0) return false;
  bool like_weights = rank(name) != kNames.size();
  for (const auto [key, item] : value.pairs()) {
    if (!is_tensor(item) || key.kind() != Kind::string) return false;
    const std::string_view text = key.text();
    like_weights = like_weights || text.find('.') != std::string_view::npos || text == "weight";
  }
  return like_weights;
}

// The states of optimizers and schedulers hold tensors too, but not a model's weights.
bool leads_to_weights(std::string_view name) {
  return !name.starts_with("optim") && name != "state" &&
         name.find("scheduler") == std::string_view::npos;
}

std::vector<Place> children(const Place& place) {
  std::vector<Place> out;
  std::set<std::string> seen;
  const auto add = [&](Value value, std::string_view name) {
    const Kind kind = value.kind();
    if (kind != Kind::dict && kind != Kind::object && kind != Kind::list) return;
    if (!leads_to_weights(name)) return;
    const std::string path =
        place.level == 0 ? std::string(name) : fmt::format("{}.{}", place.path, name);
    // A dict with attributes, such as an EasyDict, has its entries twice.
    if (!seen.insert(path).second) return;
    out.push_back({value, path, place.level + 1});
  };
  const auto add_pairs = [&](Value dict) {
    for (const auto [key, item] : dict.pairs()) {
      if (key.kind() == Kind::string) add(item, key.text());
    }
  };
  if (place.value.kind() == Kind::list) {
    for (std::size_t i = 0; i < std::min(place.value.size(), kMaxItems); ++i)
      add(place.value.item(i), fmt::format("{}", i));
    return out;
  }
  add_pairs(place.value);
  if (const std::optional<Value> state = place.value.state(); state && state->kind() == Kind::dict)
    add_pairs(*state);
  return out;
}

// `left` is the number of entries that may still be visited.
std::optional<Pick> pick_at(const Place& place, std::size_t& left) {
  const std::string name = place.path.substr(place.path.rfind('.') + 1);
  if (const std::optional<TorchModule> module = TorchModule::of(place.value)) {
    const Result<StateDict> weights = state_dict(*module);
    left -= std::min(left, weights ? weights->entries.size() + 1 : kFailedEntries);
    if (!weights || weights->entries.empty()) return std::nullopt;
    return Pick{place.path, fmt::format("whole model {}", class_name(module->object())),
                weights->entries.size(), place.value.id()};
  }
  if (place.level == 0 || !is_state_dict(place.value, name)) return std::nullopt;
  return Pick{place.path, "state dict", place.value.size(), place.value.id()};
}

// Searches breadth first, so that the checkpoint's main parts come before what is inside them.
std::vector<Pick> collect(Value root) {
  std::vector<Pick> picks;
  std::vector<Place> places{{root, "", 0}};
  std::size_t left = kMaxEntries;
  for (std::size_t i = 0; i < places.size() && i < kMaxVisits && left != 0; ++i) {
    const Place place = places[i];
    if (std::optional<Pick> pick = pick_at(place, left)) {
      const Result<Value> found = root.at(place.path);
      if (found && found->id() == place.value.id()) picks.push_back(*std::move(pick));
      continue;
    }
    if (place.level == kMaxLevels || TorchModule::of(place.value)) continue;
    if (place.level == 0 && is_state_dict(root, "model")) return {};
    for (Place& child : children(place)) {
      if (places.size() < kMaxVisits) places.push_back(std::move(child));
    }
  }
  std::ranges::stable_sort(picks, {}, [](const Pick& pick) { return rank(pick.path); });
  return picks;
}

}  // namespace

std::vector<Pick> find_picks(const Checkpoint& checkpoint) {
  if (!checkpoint.has_tree()) return {};
  const Result<Value> root = checkpoint.tree();
  return root ? collect(*root) : std::vector<Pick>{};
}

std::optional<std::string> module_name(Value value) {
  const std::optional<TorchModule> module = TorchModule::of(value);
  return module ? std::optional(class_name(module->object())) : std::nullopt;
}

std::string picks_text(const std::vector<Pick>& picks) {
  std::string text;
  for (std::size_t i = 0; i < std::min(picks.size(), kShown); ++i) {
    const Pick& pick = picks[i];
    text += fmt::format("{}--select {} ({}, {})", i == 0 ? "" : ", ", safe_text(pick.path),
                        pick.kind, count_text(pick.tensors, "tensor"));
  }
  if (picks.size() > kShown) text += fmt::format(", and {} more", picks.size() - kShown);
  return text;
}

void write_picks(const std::vector<Pick>& picks, JsonWriter& json) {
  json.begin_array();
  for (const Pick& pick : picks) {
    json.begin_object().key("select").text(pick.path).key("kind").text(pick.kind);
    json.key("tensors").number(pick.tensors).end_object();
  }
  json.end_array();
}

}  // namespace flatbed::tool
