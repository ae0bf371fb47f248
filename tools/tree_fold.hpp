// How a folded tree shows containers: modules by their parameters, buffers and children, and
// similar entries as one with a count. Not thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "value_text.hpp"

namespace flatbed::tool {

struct FoldedEntry {
  std::string label;  // "0 … 31", "layers.{0…31}.weight"
  Value value;        // the first of the entries
  std::uint64_t count = 1;
  bool equal = true;       // whether they read the same, if they are tensors
  bool in_module = false;  // whether it is a parameter, buffer or child
};

class TreeFolder {
 public:
  // `top` holds the modules whose other attributes are shown too.
  TreeFolder(const TextContext& context, std::unordered_set<NodeId> top)
      : context_(context), top_(std::move(top)) {}

  // The entries of a container in order; for a module, only its parameters, buffers and children.
  // Configs are replaced by their values.
  [[nodiscard]] std::vector<Entry> entries_of(Value container);
  // Whether some entries were configs.
  [[nodiscard]] bool left_out() const { return left_out_; }
  // The same entries, with each run of three or more similar ones merged into one.
  [[nodiscard]] std::vector<FoldedEntry> fold(Value container);

 private:
  [[nodiscard]] std::vector<Entry> all_entries(Value container) const;
  [[nodiscard]] std::uint64_t signature(Value value, int levels);
  [[nodiscard]] bool is_long(Value value) const;
  [[nodiscard]] std::vector<FoldedEntry> fold_runs(const std::vector<Entry>& all, bool in_module);
  [[nodiscard]] std::vector<FoldedEntry> fold_names(const std::vector<Entry>& all) const;

  const TextContext& context_;
  std::unordered_set<NodeId> top_;
  bool left_out_ = false;
  std::unordered_map<NodeId, std::uint64_t> signatures_;
};

}  // namespace flatbed::tool
