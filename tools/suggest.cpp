#include "suggest.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <vector>

namespace flatbed::tool {
namespace {

// The restricted Damerau-Levenshtein distance, with the last three rows of its table.
std::size_t distance(std::string_view a, std::string_view b) {
  std::array<std::vector<std::size_t>, 3> rows;
  for (std::vector<std::size_t>& row : rows) row.resize(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) rows[0][j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    const std::vector<std::size_t>& above = rows[(i - 1) % 3];
    std::vector<std::size_t>& row = rows[i % 3];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = above[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({replaced, above[j] + 1, row[j - 1] + 1});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) row[j] = std::min(row[j], rows[(i - 2) % 3][j - 2] + 1);
    }
  }
  return rows[a.size() % 3][b.size()];
}

}  // namespace

std::string similar_word(std::string_view typed, std::span<const std::string> words) {
  constexpr std::size_t kLongest = 64;  // no command or option is that long
  if (typed.size() > kLongest) return {};
  std::string best;
  std::size_t least = (typed.size() + 2) / 3 + 1;
  for (const std::string& word : words) {
    const std::size_t found = distance(typed, word);
    if (found >= least) continue;
    least = found;
    best = word;
  }
  return best;
}

}  // namespace flatbed::tool
