#include "format_text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "flatbed/dtype.hpp"

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
  return safe_text(std::string_view(path.native()));
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
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }));
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
