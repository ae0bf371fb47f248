#include "base/json_check.hpp"

#include <charconv>
#include <cstdint>
#include <string>

#include "base/str_cat.hpp"
#include "base/utf8.hpp"

namespace flatbed {

namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_hex_digit(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

// Whether an integer that has JSON's form lies in [-2^63, 2^64).
bool fits_64_bits(std::string_view integer) {
  const char* begin = integer.data();
  const char* end = begin + integer.size();
  std::int64_t with_sign = 0;
  std::uint64_t without = 0;
  const auto read = integer[0] == '-' ? std::from_chars(begin, end, with_sign)
                                      : std::from_chars(begin, end, without);
  return read.ec == std::errc();
}

class JsonCheck {
 public:
  JsonCheck(std::string_view text, const JsonRules& rules, const RealCheck& is_finite)
      : text_(text), rules_(rules), is_finite_(is_finite) {}

  Result<void> run() {
    if (!is_utf8(text_)) return make_error(rules_.not_utf8, "the JSON text is not valid UTF-8");
    if (text_.starts_with("\xEF\xBB\xBF"))
      return make_error(rules_.not_json, "the JSON text begins with a byte order mark");
    skip_space();
    if (at_ == text_.size()) return make_error(rules_.not_json, "the JSON text is empty");
    for (bool another = true; another;) {
      FLATBED_ASSIGN(const bool complete, read_value());
      if (!complete) continue;  // the first value inside it is next
      FLATBED_ASSIGN(another, read_after_value());
    }
    if (at_ == text_.size()) return {};
    if (text_.find_first_not_of('\0', at_) == text_.npos)
      return make_error(rules_.not_json, "the JSON text is padded with NUL bytes from byte ", at_,
                        " on, expected spaces");
    return unexpected("nothing more");
  }

 private:
  // The byte here; 0 at the end, which like a NUL byte begins nothing.
  [[nodiscard]] char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  bool skip(char c) {
    if (peek() != c) return false;
    ++at_;
    return true;
  }

  bool skip_digits() {
    const std::size_t begin = at_;
    while (is_digit(peek())) ++at_;
    return at_ > begin;
  }

  void skip_space() {
    while (at_ < text_.size() && std::string_view(" \t\n\r").find(text_[at_]) != text_.npos) ++at_;
  }

  [[nodiscard]] Error unexpected(std::string_view expected) const {
    const std::string found = at_ < text_.size() ? quoted(text_.substr(at_, 1)) : "its end";
    return make_error(rules_.not_json, "the JSON text is malformed at byte ", at_, ": found ",
                      found, ", expected ", expected);
  }

  // True when the value is complete: a scalar, or an empty array or object. False after the opening
  // of another, and the first key of an object.
  Result<bool> read_value() {
    skip_space();
    const char c = peek();
    if (c == '{' || c == '[') return open(c == '{' ? '}' : ']');
    if (c == '"') {
      FLATBED_TRY(read_string());
      return true;
    }
    if (c == '-' || is_digit(c)) {
      FLATBED_TRY(read_number());
      return true;
    }
    for (const std::string_view word : {"true", "false", "null"}) {
      if (!text_.substr(at_).starts_with(word)) continue;
      at_ += word.size();
      return true;
    }
    return unexpected("a value");
  }

  Result<bool> open(char closing) {
    if (closings_.size() == rules_.max_depth) {
      return make_error(rules_.too_deep, "the JSON text nests more than ", rules_.max_depth,
                        " levels");
    }
    ++at_;
    skip_space();
    if (skip(closing)) return true;
    closings_ += closing;
    if (closing == '}') FLATBED_TRY(read_key());
    return false;
  }

  // Closes what ends here. True when another value follows.
  Result<bool> read_after_value() {
    for (skip_space(); !closings_.empty(); skip_space()) {
      const bool in_object = closings_.back() == '}';
      if (skip(',')) {
        if (in_object) FLATBED_TRY(read_key());
        return true;
      }
      if (!skip(closings_.back())) return unexpected(in_object ? "',' or '}'" : "',' or ']'");
      closings_.pop_back();
    }
    return false;
  }

  Result<void> read_key() {
    skip_space();
    if (peek() != '"') return unexpected("a key in double quotes");
    FLATBED_TRY(read_string());
    skip_space();
    return skip(':') ? Result<void>() : unexpected("':'");
  }

  Result<void> read_string() {
    for (++at_; !skip('"');) {
      if (at_ == text_.size()) return unexpected("'\"'");
      if (static_cast<unsigned char>(peek()) < 0x20) return unexpected("an escape sequence");
      if (skip('\\')) {
        FLATBED_TRY(read_escape());
      } else {
        ++at_;
      }
    }
    return {};
  }

  // What follows a backslash. Of a pair of surrogates both halves.
  Result<void> read_escape() {
    if (peek() != 'u') {
      if (at_ == text_.size() || std::string_view("\"\\/bfnrt").find(peek()) == text_.npos)
        return unexpected("one of \" \\ / b f n r t u");
      ++at_;
      return {};
    }
    FLATBED_ASSIGN(const unsigned first, read_code_unit());
    const bool low = first >= 0xDC00 && first < 0xE000;
    const bool high = first >= 0xD800 && first < 0xDC00;
    if (low) return half_pair();
    if (!high) return {};
    if (!skip('\\') || peek() != 'u') return half_pair();
    FLATBED_ASSIGN(const unsigned second, read_code_unit());
    return second >= 0xDC00 && second < 0xE000 ? Result<void>() : half_pair();
  }

  [[nodiscard]] Error half_pair() const {
    return make_error(rules_.not_json, "the JSON text is malformed before byte ", at_,
                      ": half of a surrogate pair is escaped");
  }

  // uXXXX
  Result<unsigned> read_code_unit() {
    ++at_;
    unsigned unit = 0;
    for (int i = 0; i < 4; ++i, ++at_) {
      const char c = peek();
      if (!is_hex_digit(c)) return unexpected("a hex digit");
      unit = unit << 4 | static_cast<unsigned>(is_digit(c) ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    return unit;
  }

  Result<void> read_number() {
    const std::size_t begin = at_;
    skip('-');
    if (!skip('0') && !skip_digits()) return unexpected("a digit");
    bool integer = true;
    if (skip('.')) {
      integer = false;
      if (!skip_digits()) return unexpected("a digit");
    }
    if (skip('e') || skip('E')) {
      integer = false;
      if (!skip('+')) skip('-');
      if (!skip_digits()) return unexpected("a digit");
    }
    const std::string_view number = text_.substr(begin, at_ - begin);
    if (integer ? fits_64_bits(number) : is_finite_(number)) return {};
    return make_error(rules_.number_range, "the JSON text has a number beyond 64 bits at byte ",
                      begin);
  }

  std::string_view text_;
  const JsonRules& rules_;
  const RealCheck& is_finite_;
  std::size_t at_ = 0;
  std::string closings_;  // of the arrays and objects that are open, the innermost last
};

}  // namespace

Result<void> check_json(std::string_view text, const JsonRules& rules, const RealCheck& is_finite) {
  return JsonCheck(text, rules, is_finite).run();
}

}  // namespace flatbed
