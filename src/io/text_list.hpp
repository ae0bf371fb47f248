// TextList: many texts in two blocks of memory, where a vector of strings would need one block
// each. Texts are added and never changed. Views from operator[] stay valid until the next add().
// Owns the texts. One thread builds, any number may then read.
#pragma once

#include <cstddef>
#include <string_view>

#include "io/large_allocator.hpp"

namespace flatbed {

class TextList {
 public:
  // Reserves room for about this many texts of ordinary length.
  void reserve(std::size_t count) {
    ends_.reserve(count);
    chars_.reserve(count * 48);
  }
  void add(std::string_view text) {
    chars_.insert(chars_.end(), text.begin(), text.end());
    ends_.push_back(chars_.size());
  }
  [[nodiscard]] std::size_t size() const noexcept { return ends_.size(); }
  [[nodiscard]] bool empty() const noexcept { return ends_.empty(); }
  [[nodiscard]] std::string_view operator[](std::size_t index) const {
    const std::size_t begin = index == 0 ? 0 : ends_[index - 1];
    return {chars_.data() + begin, ends_[index] - begin};
  }
  [[nodiscard]] std::string_view back() const { return (*this)[size() - 1]; }

 private:
  LargeVector<char> chars_;
  LargeVector<std::size_t> ends_;  // of each text in chars_
};

}  // namespace flatbed
