#include "checkpoint/match_keys.hpp"

#include <algorithm>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "base/str_cat.hpp"

namespace flatbed {

namespace {

constexpr std::int64_t kTracksBatches = 2;  // the version of modules that have the buffer

// The item of a text key; nullopt if there is none.
std::optional<Value> item_of(Value dict, std::string_view name) {
  for (const auto [key, item] : dict.pairs()) {
    if (key.kind() == Kind::string && key.text() == name) return item;
  }
  return std::nullopt;
}

// A value that no tensor can be in.
bool is_leaf(Value value) {
  return !value.tensor() && value.kind() != Kind::object && value.size() == 0;
}

// Whether one of the sorted names is that of `key` or of something in it.
bool leads_to_tensor(std::string_view key, std::span<const std::string_view> names) {
  if (std::ranges::binary_search(names, key)) return true;
  const std::string within = str_cat(key, ".");
  const auto first = std::ranges::lower_bound(names, within);
  return first != names.end() && first->starts_with(within);
}

}  // namespace

MatchKeys::MatchKeys(const Checkpoint& checkpoint, MatchMeaning meaning)
    : checkpoint_(checkpoint),
      aliases_are_keys_(meaning == MatchMeaning::checkpoint || is_pickle()) {
  if (meaning == MatchMeaning::torch && is_pickle()) read_root();
}

// What torch.load() returns beside the tensors. Without a tree that can be read there is nothing.
void MatchKeys::read_root() {
  if (!checkpoint_.has_tree()) return;
  const Result<Value> root = checkpoint_.tree();
  if (!root) return;
  std::vector<std::string_view> others;
  std::vector<std::string_view> names;  // sorted; empty until they are needed
  for (const auto [key, item] : root->pairs()) {
    if (key.kind() != Kind::string) continue;
    if (!is_leaf(item)) {
      if (names.empty()) {
        names = all();
        std::ranges::sort(names);
      }
      if (leads_to_tensor(key.text(), names)) continue;
    }
    others.push_back(key.text());
  }
  others_ = std::move(others);
  const std::optional<Value> state = root->state();
  const auto metadata = state ? item_of(*state, "_metadata") : std::nullopt;
  if (!metadata) return;
  for (const auto [key, item] : metadata->pairs()) {
    const auto version = key.kind() == Kind::string ? item_of(item, "version") : std::nullopt;
    if (version && version->as_int()) versions_.emplace(key.text(), *version->as_int());
  }
}

const TensorInfo* MatchKeys::find(std::string_view key) const {
  const TensorInfo* found = checkpoint_.find(key);
  return found != nullptr && (aliases_are_keys_ || found->name == key) ? found : nullptr;
}

std::vector<std::string_view> MatchKeys::all() const {
  std::vector<std::string_view> keys;
  keys.reserve(checkpoint_.tensors().size() + checkpoint_.aliases().size() + others_.size());
  for (const TensorInfo& tensor : checkpoint_.tensors()) keys.push_back(tensor.name);
  for (const Alias& alias : checkpoint_.aliases()) {
    if (aliases_are_keys_) keys.push_back(alias.name);
  }
  keys.insert(keys.end(), others_.begin(), others_.end());
  return keys;
}

bool MatchKeys::forgives_batches(std::string_view module) const {
  const auto version = versions_.find(module);
  return version == versions_.end() || version->second < kTracksBatches;
}

}  // namespace flatbed
