#include "checkpoint/glob.hpp"

#include <cstddef>

namespace flatbed {

namespace {

// Matches one byte against the pattern element at `at` and moves `at` past the element. A set
// without its closing bracket is a literal bracket.
bool match_one(std::string_view pattern, std::size_t& at, char c) {
  const bool opens = pattern[at] == '[';
  const std::size_t close = opens ? pattern.find(']', at + 2) : pattern.npos;
  if (close != pattern.npos) {
    std::size_t i = at + 1;
    const bool negated = pattern[i] == '!' || pattern[i] == '^';
    if (negated) ++i;
    bool found = false;
    for (; i < close; ++i) {
      const bool range = i + 2 < close && pattern[i + 1] == '-';
      const auto low = static_cast<unsigned char>(pattern[i]);
      const auto high = static_cast<unsigned char>(range ? pattern[i + 2] : pattern[i]);
      const auto byte = static_cast<unsigned char>(c);
      found = found || (low <= byte && byte <= high);
      if (range) i += 2;
    }
    at = close + 1;
    return found != negated;
  }
  if (pattern[at] == '\\' && at + 1 < pattern.size())
    ++at;
  else if (pattern[at] == '?')
    return ++at, true;
  return pattern[at++] == c;
}

}  // namespace

bool glob_matches(std::string_view pattern, std::string_view text) noexcept {
  std::size_t p = 0;
  std::size_t t = 0;
  std::size_t star = pattern.npos;  // after the last star seen
  std::size_t retry = 0;            // where the text after that star is tried next
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = ++p;
      retry = t;
      continue;
    }
    if (p < pattern.size() && match_one(pattern, p, text[t])) {
      ++t;
      continue;
    }
    if (star == pattern.npos) return false;
    p = star;
    t = ++retry;
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

}  // namespace flatbed
