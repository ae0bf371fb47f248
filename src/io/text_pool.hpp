// TextPool: copies of many short texts, one after the other in blocks that never move, so that a
// text stays valid as long as the pool exists. Owns the blocks. Move-only; not thread-safe while it
// grows.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string_view>
#include <vector>

#include "io/large_allocator.hpp"

namespace flatbed {

class TextPool {
 public:
  // Returns the copy.
  std::string_view add(std::string_view text) {
    if (text.size() > left_) grow(text.size());
    const std::string_view copy(next_, text.size());
    next_ = std::ranges::copy(text, next_).out;
    left_ -= text.size();
    return copy;
  }

 private:
  static constexpr std::size_t kFirst = 16 << 10;
  static constexpr std::size_t kMost = 2 << 20;  // a huge page

  // Blocks double, so that a small pool takes little memory.
  void grow(std::size_t nbytes) {
    const std::size_t usual = blocks_.empty() ? kFirst : std::min(2 * blocks_.back().size(), kMost);
    left_ = std::max(nbytes, usual);
    next_ = blocks_.emplace_back(left_).data();
  }

  std::vector<LargeVector<char>> blocks_;
  char* next_ = nullptr;
  std::size_t left_ = 0;
};

}  // namespace flatbed
