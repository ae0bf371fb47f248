#include "torch/script_code.hpp"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "base/utf8.hpp"

namespace flatbed::pth {

namespace {

bool in_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

int digit_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return 16;
}

// The character that a one-letter escape stands for, or nullopt if it is another kind of escape.
std::optional<char> simple_escape(char c) {
  constexpr std::string_view kEscapes = "\\'\"abfnrtv";
  constexpr std::string_view kMeanings = "\\'\"\a\b\f\n\r\t\v";
  const std::size_t at = kEscapes.find(c);
  return at == std::string_view::npos ? std::nullopt : std::optional(kMeanings[at]);
}

class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text) {}

  std::optional<std::vector<ScriptClass>> run() {
    while (!at_end()) {
      if (!statement()) return std::nullopt;
    }
    for (ScriptClass& found : classes_) {
      std::ranges::sort(found.parameters);
      std::ranges::sort(found.buffers);
    }
    return std::move(classes_);
  }

 private:
  [[nodiscard]] bool at_end() const { return at_ == text_.size(); }
  [[nodiscard]] bool next_is(char c) const { return !at_end() && text_[at_] == c; }
  bool take(char c) {
    if (!next_is(c)) return false;
    ++at_;
    return true;
  }
  std::size_t skip_blanks() {
    const std::size_t begin = at_;
    while (next_is(' ') || next_is('\t')) ++at_;
    return at_ - begin;
  }
  void skip_blank_lines() {
    while (next_is(' ') || next_is('\t') || next_is('\n') || next_is('\r')) ++at_;
  }
  std::string_view word() {
    const std::size_t begin = at_;
    while (!at_end() && in_word(text_[at_])) ++at_;
    return text_.substr(begin, at_ - begin);
  }

  // Each of these returns false if the text is not what torch writes.
  bool statement() {
    const std::size_t indent = skip_blanks();
    if (at_end() || next_is('\n') || next_is('\r') || next_is('#')) return rest();
    const std::string_view first = word();
    if (indent == 0) {
      body_indent_ = 0;
      in_class_ = first == "class";
      return (!in_class_ || class_head()) && rest();
    }
    if (!in_class_) return rest();
    if (body_indent_ == 0) body_indent_ = indent;
    return (indent != body_indent_ || member(first)) && rest();
  }

  bool class_head() {
    skip_blanks();
    ScriptClass found;
    found.name = word();
    if (found.name.empty()) return false;
    skip_blanks();
    if (take('(')) {
      skip_blanks();
      found.module = word() == "Module";
      skip_blanks();
      if (!take(')')) return false;
      skip_blanks();
    }
    classes_.push_back(std::move(found));
    return take(':');
  }

  bool member(std::string_view first) {
    ScriptClass& found = classes_.back();
    if (first == "__parameters__") return names(found.parameters);
    if (first == "__buffers__") {
      found.lists_buffers = true;
      return names(found.buffers);
    }
    if (first == "def") {
      skip_blanks();
      if (word() == "__getstate__") found.makes_state = true;
    }
    return true;
  }

  // = ["a", "b", ]
  bool names(std::vector<std::string>& out) {
    skip_blanks();
    if (!take('=')) return false;
    skip_blanks();
    if (!take('[')) return false;
    skip_blank_lines();
    while (!take(']')) {
      std::optional<std::string> name = string();
      if (!name) return false;
      out.push_back(std::move(*name));
      skip_blank_lines();
      if (!next_is(']') && !take(',')) return false;
      skip_blank_lines();
    }
    return true;
  }

  std::optional<std::string> string() {
    const char quote = next_is('\'') ? '\'' : '"';
    if (!take(quote)) return std::nullopt;
    std::string out;
    while (!at_end() && !next_is('\n')) {
      const char c = text_[at_++];
      if (c == quote) return is_wtf8(out) ? std::optional(std::move(out)) : std::nullopt;
      if (c != '\\') {
        out += c;
      } else if (!escape(out)) {
        return std::nullopt;
      }
    }
    return std::nullopt;
  }

  // After a backslash: one character, x and two hex digits, or one to three octal digits.
  bool escape(std::string& out) {
    if (at_end()) return false;
    if (const std::optional<char> simple = simple_escape(text_[at_])) {
      out += *simple;
      ++at_;
      return true;
    }
    const bool hex = take('x');
    const int base = hex ? 16 : 8;
    const std::size_t most = hex ? 2 : 3;
    int value = 0;
    std::size_t count = 0;
    while (count < most && !at_end() && digit_value(text_[at_]) < base) {
      value = value * base + digit_value(text_[at_++]);
      ++count;
    }
    out += static_cast<char>(value);
    return count != 0 && (!hex || count == most) && value <= 0xFF;
  }

  // Skips to the end of the statement and past it: the end of the line, outside brackets and
  // strings.
  bool rest() {
    std::size_t depth = 0;
    while (!at_end()) {
      const char c = text_[at_++];
      if (c == '\n' && depth == 0) return true;
      if (c == '#') at_ = std::min(text_.find('\n', at_), text_.size());
      if (c == '\\' && !at_end()) ++at_;
      if (c == '"' || c == '\'') {
        if (!skip_string(c)) return false;
      }
      if (c == '(' || c == '[' || c == '{') ++depth;
      if (c == ')' || c == ']' || c == '}') {
        if (depth-- == 0) return false;
      }
    }
    return depth == 0;
  }

  // After the opening quote. Three quotes open a string of several lines.
  bool skip_string(char quote) {
    const bool three = text_.size() - at_ >= 2 && text_[at_] == quote && text_[at_ + 1] == quote;
    if (three) at_ += 2;
    std::size_t closing = 0;  // consecutive quotes
    while (!at_end()) {
      const char c = text_[at_++];
      closing = c == quote ? closing + 1 : 0;
      if (closing == (three ? 3U : 1U)) return true;
      if (c == '\n' && !three) return false;
      if (c == '\\' && !at_end()) ++at_;
    }
    return false;
  }

  std::string_view text_;
  std::size_t at_ = 0;
  std::vector<ScriptClass> classes_;
  bool in_class_ = false;
  std::size_t body_indent_ = 0;  // 0 until known
};

}  // namespace

std::optional<std::vector<ScriptClass>> scan_script_code(std::string_view text) {
  return Scanner(text).run();
}

}  // namespace flatbed::pth
