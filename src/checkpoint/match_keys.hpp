// MatchKeys: the keys that a checkpoint has for match(), in one of its two meanings. Borrows the
// checkpoint. Const members are thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string_view>
#include <vector>

#include "flatbed/checkpoint.hpp"
#include "flatbed/match.hpp"
#include "flatbed/value.hpp"

namespace flatbed {

class MatchKeys {
 public:
  MatchKeys(const Checkpoint& checkpoint, MatchMeaning meaning);

  // The tensor that a key leads to; null if there is no such key.
  [[nodiscard]] const TensorInfo* find(std::string_view key) const;

  // All keys: names of tensors, then aliases that are keys, then keys without tensors.
  [[nodiscard]] std::vector<std::string_view> all() const;

  [[nodiscard]] std::string_view tensor_name(std::size_t tensor) const {
    return checkpoint_.tensors()[tensor].name;
  }

  // Whether torch adds a num_batches_tracked that is missing in the module of this name.
  [[nodiscard]] bool forgives_batches(std::string_view module) const;

 private:
  [[nodiscard]] bool is_pickle() const { return checkpoint_.layout() != Layout::safetensors; }
  void read_root();

  const Checkpoint& checkpoint_;
  bool aliases_are_keys_;
  std::vector<std::string_view> others_;               // keys without tensors
  std::map<std::string_view, std::int64_t> versions_;  // of modules, by the _metadata
};

}  // namespace flatbed
