#include "checkpoint/capture_glob.hpp"

#include <algorithm>

namespace flatbed {

CaptureGlob::CaptureGlob(std::string_view pattern) {
  Segment segment;
  // Brackets after the last ] are literal: looking for the end of each would take quadratic time.
  const std::size_t sets_end = pattern.rfind(']') + 1;  // 0: there is no set
  for (std::size_t at = 0; at < pattern.size(); ++at) {
    const char c = pattern[at];
    const bool opens = c == '[' && at + 2 < sets_end;
    const std::size_t close = opens ? pattern.find(']', at + 2) : pattern.npos;
    if (c == '*') {
      segment.end = elements_.size();
      segments_.push_back(segment);
      segment.begin = segment.end;
      ++captures_;
    } else if (c == '?') {
      elements_.push_back({Element::Kind::any});
      ++captures_;
    } else if (close != pattern.npos) {
      at = add_set(pattern, at, close);
      ++captures_;
    } else {
      if (c == '\\' && at + 1 < pattern.size()) ++at;
      elements_.push_back({Element::Kind::literal, pattern[at]});
    }
  }
  segment.end = elements_.size();
  segments_.push_back(segment);
  set_ends();
}

// Returns the place of the closing bracket.
std::size_t CaptureGlob::add_set(std::string_view pattern, std::size_t open, std::size_t close) {
  std::size_t i = open + 1;
  const bool negated = pattern[i] == '!' || pattern[i] == '^';
  if (negated) ++i;
  Set set;
  for (; i < close; ++i) {
    const bool range = i + 2 < close && pattern[i + 1] == '-';
    const auto low = static_cast<unsigned char>(pattern[i]);
    const auto high = static_cast<unsigned char>(range ? pattern[i + 2] : pattern[i]);
    for (unsigned byte = low; byte <= high; ++byte) set.set(byte);
    if (range) i += 2;
  }
  if (negated) set.flip();
  elements_.push_back({Element::Kind::set, 0, static_cast<std::uint32_t>(sets_.size())});
  sets_.push_back(set);
  return close;
}

void CaptureGlob::set_ends() {
  const auto is_literal = [](const Element& element) {
    return element.kind == Element::Kind::literal;
  };
  const Segment& first = segments_.front();
  const Segment& last = segments_.back();
  for (std::size_t i = first.begin; i < first.end && is_literal(elements_[i]); ++i)
    prefix_ += elements_[i].c;
  for (std::size_t i = last.end; i > last.begin && is_literal(elements_[i - 1]); --i)
    suffix_ += elements_[i - 1].c;
  std::ranges::reverse(suffix_);
}

bool CaptureGlob::fits(const Segment& segment, const char* text) const {
  for (std::size_t i = segment.begin; i < segment.end; ++i, ++text) {
    const Element& element = elements_[i];
    if (element.kind == Element::Kind::literal && element.c != *text) return false;
    if (element.kind == Element::Kind::set &&
        !sets_[element.set][static_cast<unsigned char>(*text)])
      return false;
  }
  return true;
}

void CaptureGlob::capture(const Segment& segment, const char* text,
                          std::vector<std::string_view>& captured) const {
  for (std::size_t i = segment.begin; i < segment.end; ++i, ++text) {
    if (elements_[i].kind != Element::Kind::literal) captured.emplace_back(text, 1);
  }
}

std::string CaptureGlob::text_with(std::span<const std::string_view> captured) const {
  std::string text;
  auto next = captured.begin();
  for (std::size_t i = 0; i < segments_.size(); ++i) {
    if (i != 0) text += *next++;
    for (std::size_t at = segments_[i].begin; at < segments_[i].end; ++at) {
      const Element& element = elements_[at];
      element.kind == Element::Kind::literal ? text += element.c : text += *next++;
    }
  }
  return text;
}

bool CaptureGlob::match(std::string_view text, std::vector<std::string_view>& captured) const {
  if (segments_.empty() || text.size() < min_size()) return false;
  const Segment& first = segments_.front();
  const Segment& last = segments_.back();
  if (segments_.size() == 1 && text.size() != first.size()) return false;
  if (!text.starts_with(prefix_) || !text.ends_with(suffix_) || !fits(first, text.data()))
    return false;
  captured.clear();
  capture(first, text.data(), captured);
  if (segments_.size() == 1) return true;
  const std::size_t tail = text.size() - last.size();  // where the last segment must be
  if (!fits(last, text.data() + tail)) return false;
  std::size_t at = first.size();
  for (std::size_t i = 1; i + 1 < segments_.size(); ++i) {
    const Segment& segment = segments_[i];
    std::size_t found = at;
    while (found + segment.size() <= tail && !fits(segment, text.data() + found)) ++found;
    if (found + segment.size() > tail) return false;
    captured.push_back(text.substr(at, found - at));
    capture(segment, text.data() + found, captured);
    at = found + segment.size();
  }
  captured.push_back(text.substr(at, tail - at));
  capture(last, text.data() + tail, captured);
  return true;
}

}  // namespace flatbed
