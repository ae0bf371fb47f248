#include "format_text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <span>

#include "flatbed/dtype.hpp"
#include "url_text.hpp"

namespace flatbed::tool {
namespace {

// The lowest value that a sequence of this many bytes may stand for, and the mask of its lead byte.
struct Utf8Form {
  unsigned char mark, mask;
  std::uint32_t lowest;
};
constexpr std::array kUtf8Forms{
    Utf8Form{0x00, 0x80, 0x0},
    Utf8Form{0xC0, 0xE0, 0x80},
    Utf8Form{0xE0, 0xF0, 0x800},
    Utf8Form{0xF0, 0xF8, 0x10000},
};

// The blocks whose characters take two columns on a terminal, and those that take none because they
// change the character before them. After Unicode's East Asian Width and general categories.
struct PointRange {
  std::uint32_t first, last;
};
constexpr std::array kWide{
    PointRange{0x1100, 0x115F},   PointRange{0x231A, 0x231B},   PointRange{0x2329, 0x232A},
    PointRange{0x2E80, 0x303E},   PointRange{0x3041, 0xA4CF},   PointRange{0xA960, 0xA97F},
    PointRange{0xAC00, 0xD7A3},   PointRange{0xF900, 0xFAFF},   PointRange{0xFE10, 0xFE19},
    PointRange{0xFE30, 0xFE6F},   PointRange{0xFF00, 0xFF60},   PointRange{0xFFE0, 0xFFE6},
    PointRange{0x1F300, 0x1F64F}, PointRange{0x1F680, 0x1F6FF}, PointRange{0x1F900, 0x1F9FF},
    PointRange{0x20000, 0x3FFFD},
};
constexpr std::array kZeroWidth{
    PointRange{0x0300, 0x036F}, PointRange{0x0483, 0x0489}, PointRange{0x0591, 0x05BD},
    PointRange{0x064B, 0x065F}, PointRange{0x1AB0, 0x1AFF}, PointRange{0x1DC0, 0x1DFF},
    PointRange{0x200B, 0x200D}, PointRange{0x20D0, 0x20FF}, PointRange{0x302A, 0x302D},
    PointRange{0x3099, 0x309A}, PointRange{0xFE00, 0xFE0F}, PointRange{0xFE20, 0xFE2F},
    PointRange{0xFEFF, 0xFEFF},
};

bool is_in(std::span<const PointRange> ranges, std::uint32_t point) {
  return std::ranges::any_of(
      ranges, [&](const PointRange& range) { return point >= range.first && point <= range.last; });
}

std::size_t point_columns(const CodePoint& point) {
  if (!point.valid || point.value < 0x300) return 1;
  if (is_in(kZeroWidth, point.value)) return 0;
  return is_in(kWide, point.value) ? 2 : 1;
}

bool unsafe_on_terminal(std::uint32_t code) {
  const bool control = code < 0x20 || (code >= 0x7F && code < 0xA0);
  const bool line_break = code == 0x2028 || code == 0x2029;
  const bool direction = code == 0x061C || code == 0x200E || code == 0x200F ||
                         (code >= 0x202A && code <= 0x202E) || (code >= 0x2066 && code <= 0x2069);
  return control || line_break || direction;
}

void append_safe(std::string& out, std::string_view bytes, const CodePoint& point) {
  if (!point.valid) {
    fmt::format_to(std::back_inserter(out), "\\x{:02x}", static_cast<unsigned char>(bytes[0]));
  } else if (point.value == '\n') {
    out += "\\n";
  } else if (point.value == '\t') {
    out += "\\t";
  } else if (unsafe_on_terminal(point.value)) {
    fmt::format_to(std::back_inserter(out), "\\u{:04x}", point.value);
  } else {
    out += bytes.substr(0, point.nbytes);
  }
}

}  // namespace

CodePoint decode_utf8(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  for (std::size_t nbytes = 1; nbytes <= kUtf8Forms.size(); ++nbytes) {
    const Utf8Form& form = kUtf8Forms[nbytes - 1];
    if ((lead & form.mask) != form.mark) continue;
    if (text.size() < nbytes) return {};
    auto value = static_cast<std::uint32_t>(lead & ~form.mask & 0xFF);
    for (const char c : text.substr(1, nbytes - 1)) {
      const auto byte = static_cast<unsigned char>(c);
      if ((byte & 0xC0) != 0x80) return {};
      value = value << 6 | (byte & 0x3F);
    }
    const bool surrogate = value >= 0xD800 && value <= 0xDFFF;
    if (value < form.lowest || value > 0x10FFFF || surrogate) return {};
    return {value, nbytes, true};
  }
  return {};
}

std::size_t printable_ascii(std::string_view text) {
  const auto end = std::ranges::find_if(text, [](char c) { return c < 0x20 || c > 0x7E; });
  return static_cast<std::size_t>(end - text.begin());
}

void append_safe_text(std::string& out, std::string_view text) {
  while (!text.empty()) {
    const std::size_t plain = printable_ascii(text);
    out.append(text.substr(0, plain));
    text.remove_prefix(plain);
    if (text.empty()) return;
    const CodePoint point = decode_utf8(text);
    append_safe(out, text, point);
    text.remove_prefix(point.nbytes);
  }
}

std::string safe_text(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  append_safe_text(out, text);
  return out;
}

std::string path_text(const std::filesystem::path& path) {
  const std::string_view text = path.native();
  return is_url(text) ? safe_text(shown_url(text)) : safe_text(text);
}

std::string quoted_text(std::string_view text, std::size_t limit) {
  std::string out = "'";
  for (std::size_t count = 0; !text.empty(); ++count) {
    if (count == limit) return out + "…'";
    const CodePoint point = decode_utf8(text);
    if (text[0] == '\'' || text[0] == '\\') out += '\\';
    append_safe(out, text, point);
    text.remove_prefix(point.nbytes);
  }
  return out + "'";
}

std::size_t columns(std::string_view text) {
  std::size_t count = 0;
  while (!text.empty()) {
    const std::size_t plain = printable_ascii(text);
    count += plain;
    text.remove_prefix(plain);
    if (text.empty()) break;
    const CodePoint point = decode_utf8(text);
    count += point_columns(point);
    text.remove_prefix(point.nbytes);
  }
  return count;
}

std::string shortened(std::string_view text, std::size_t width) {
  std::size_t left = columns(text);
  if (left <= width || width < 3) return std::string(text);
  const std::size_t head_columns = (width - 1) / 2, tail_columns = width - 1 - head_columns;
  std::size_t used = 0, head = 0, tail = 0;
  while (left > tail_columns) {
    const CodePoint point = decode_utf8(text.substr(tail));
    const std::size_t own = point_columns(point);
    left -= own;
    used += own;
    tail += point.nbytes;
    if (used <= head_columns) head = tail;
  }
  return fmt::format("{}…{}", text.substr(0, head), text.substr(tail));
}

void append_padded(std::string& out, std::string_view text, std::size_t width) {
  out += text;
  const std::size_t used = columns(text);
  if (used < width) out.append(width - used, ' ');
}

std::string padded(std::string_view text, std::size_t width) {
  std::string out;
  append_padded(out, text, width);
  return out;
}

std::string size_text(std::uint64_t nbytes) {
  constexpr std::array<std::string_view, 7> kUnits{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  auto value = static_cast<double>(nbytes);
  std::size_t unit = 0;
  while (value >= 1023.95 && unit + 1 < kUnits.size()) {  // 1023.95 would print as 1024.0
    value /= 1024;
    ++unit;
  }
  if (unit == 0) return fmt::format("{} B", nbytes);
  return fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::string number_text(std::uint64_t number) {
  std::string digits = fmt::format("{}", number);
  for (std::size_t place = digits.size(); place > 3;) {
    place -= 3;
    digits.insert(place, 1, ',');
  }
  return digits;
}

std::string amount_text(std::uint64_t number) {
  constexpr std::uint64_t kExact = 10'000;  // smaller numbers are written out
  if (number < kExact) return number_text(number);
  constexpr std::array<std::string_view, 6> kUnits{"K", "M", "B", "T", "Qa", "Qi"};
  double value = static_cast<double>(number) / 1000;
  std::size_t unit = 0;
  while (value >= 999.5 && unit + 1 < kUnits.size()) {  // 999.5 would print as 1000
    value /= 1000;
    ++unit;
  }
  const int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return fmt::format("{:.{}f} {}", value, decimals, kUnits[unit]);
}

std::string time_text(double seconds) {
  constexpr double kLongest = 359'999;  // 99:59:59
  const auto whole = static_cast<std::uint64_t>(std::clamp(std::ceil(seconds), 0.0, kLongest));
  if (whole < 3600) return fmt::format("{}:{:02}", whole / 60, whole % 60);
  return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

void append_number(std::string& out, std::uint64_t number) {
  const fmt::format_int digits(number);
  out.append(digits.data(), digits.size());
}

std::string shape_text(ShapeView shape) {
  std::string out = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (i != 0) out += ", ";
    append_number(out, shape[i]);
  }
  return out += ']';
}

std::string count_text(std::uint64_t number, std::string_view noun) {
  return fmt::format("{} {}{}", number_text(number), noun, number == 1 ? "" : "s");
}

std::string_view verb_text(std::uint64_t number, std::string_view one, std::string_view many) {
  return number == 1 ? one : many;
}

std::string tensor_text(const TensorInfo& tensor) {
  return fmt::format("{}{}", name(tensor.dtype), shape_text(tensor.shape));
}

}  // namespace flatbed::tool
