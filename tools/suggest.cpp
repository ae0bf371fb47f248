#include "suggest.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "format_text.hpp"
#include "picks.hpp"

namespace flatbed::tool {
namespace {

constexpr std::size_t kMaxWord = 64;         // longer words are not compared
constexpr std::size_t kMaxCandidates = 512;  // of one level of a tree

// The number of characters to add, remove, replace or swap with their neighbours.
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<std::size_t>> rows(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
  for (std::size_t i = 0; i <= a.size(); ++i) {
    for (std::size_t j = 0; j <= b.size(); ++j) {
      if (i == 0 || j == 0) {
        rows[i][j] = i + j;
        continue;
      }
      const std::size_t replaced = rows[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      std::size_t best = std::min({rows[i - 1][j] + 1, rows[i][j - 1] + 1, replaced});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        best = std::min(best, rows[i - 2][j - 2] + 1);
      rows[i][j] = best;
    }
  }
  return rows[a.size()][b.size()];
}

// The keys of the deepest part of `path` that exists, each with the path to it, and the picks.
std::vector<std::string> similar_paths(const Checkpoint& checkpoint, std::string_view path) {
  std::vector<std::string> paths;
  for (const Pick& pick : find_picks(checkpoint)) paths.push_back(pick.path);
  const Result<Value> root = checkpoint.tree();
  if (!root) return paths;
  std::string_view above = path;
  std::optional<Value> parent;
  while (!parent && !above.empty()) {
    const std::size_t dot = above.rfind('.');
    above = dot == std::string_view::npos ? "" : above.substr(0, dot);
    const Result<Value> found = root->at(above);
    if (found) parent = *found;
  }
  if (!parent || parent->kind() != Kind::dict) return paths;
  for (const auto [key, item] : parent->pairs()) {
    if (paths.size() == kMaxCandidates) break;
    if (key.kind() != Kind::string) continue;
    paths.push_back(above.empty() ? std::string(key.text())
                                  : fmt::format("{}.{}", above, key.text()));
  }
  return paths;
}

}  // namespace

std::optional<std::string> nearest(std::string_view word, std::span<const std::string> candidates) {
  if (word.size() > kMaxWord) return std::nullopt;
  std::optional<std::string> best;
  std::size_t least = std::max<std::size_t>(1, word.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    if (candidate.size() > kMaxWord) continue;
    const std::size_t own = distance(word, candidate);
    if (own >= least) continue;
    least = own;
    best = candidate;
  }
  return best;
}

std::string suggestion(std::string_view word, std::span<const std::string> candidates) {
  const std::optional<std::string> found = nearest(word, candidates);
  return found ? fmt::format("; did you mean {}?", quoted_text(*found, kMaxWord)) : "";
}

Result<Checkpoint> select_part(const Checkpoint& checkpoint, const Selection& selection) {
  Result<Checkpoint> part = checkpoint.select(selection);
  if (part) return part;
  Error error = part.error();
  // The library names its members; people know the options.
  constexpr std::string_view kMembers = "include and exclude";
  if (error.message.ends_with(kMembers)) {
    error.message.resize(error.message.size() - kMembers.size());
    error.message += "--include and --exclude";
  }
  if (error.code != ErrorCode::path_not_found || !checkpoint.has_tree()) return error;
  error.message += suggestion(selection.path, similar_paths(checkpoint, selection.path));
  return error;
}

}  // namespace flatbed::tool
