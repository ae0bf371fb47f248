// CaptureGlob: a compiled glob (glob.hpp says what matches) that says what its wildcards matched.
// Owns its elements. Const members are thread-safe.
#pragma once

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace flatbed {

class CaptureGlob {
 public:
  CaptureGlob() = default;
  explicit CaptureGlob(std::string_view pattern);

  // The number of wildcards: * ? [].
  [[nodiscard]] std::size_t captures() const noexcept { return captures_; }

  // Whether all of `text` matches. Then `captured` has the part that each wildcard matched, from
  // left to right. Each star but the last matches as little as possible; no star is tried again
  // after a later one, so that time is at most proportional to pattern times text.
  [[nodiscard]] bool match(std::string_view text, std::vector<std::string_view>& captured) const;

  // The text that the glob matches with these captures.
  [[nodiscard]] std::string text_with(std::span<const std::string_view> captured) const;

  // What every matching text begins and ends with, and its least size: to reject others early.
  [[nodiscard]] const std::string& prefix() const noexcept { return prefix_; }
  [[nodiscard]] const std::string& suffix() const noexcept { return suffix_; }
  [[nodiscard]] std::size_t min_size() const noexcept { return elements_.size(); }

 private:
  using Set = std::bitset<256>;
  // Matches exactly one byte.
  struct Element {
    enum class Kind : std::uint8_t { literal, any, set } kind = Kind::literal;
    char c = 0;             // a literal's
    std::uint32_t set = 0;  // number in sets_
  };
  // Elements between two stars, or between a star and an end.
  struct Segment {
    std::size_t begin = 0;
    std::size_t end = 0;
    [[nodiscard]] std::size_t size() const noexcept { return end - begin; }
  };

  std::size_t add_set(std::string_view pattern, std::size_t open, std::size_t close);
  void set_ends();
  [[nodiscard]] bool fits(const Segment& segment, const char* text) const;
  void capture(const Segment& segment, const char* text,
               std::vector<std::string_view>& captured) const;

  std::vector<Element> elements_;
  std::vector<Set> sets_;
  std::vector<Segment> segments_;  // one more than there are stars
  std::size_t captures_ = 0;
  std::string prefix_;
  std::string suffix_;
};

}  // namespace flatbed
