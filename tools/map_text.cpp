#include "map_text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <span>

#include "format_text.hpp"

namespace flatbed::tool {
namespace {

constexpr std::size_t kMaxColumns = 1000;
constexpr std::size_t kMaxCodePoints = 4000;  // that are looked at; combining ones take no column
constexpr std::size_t kMaxLabel = 240;        // bytes of a name that a label can show
constexpr std::size_t kMinColumns = 3;        // a shorter piece of a name says nothing

// U+FFFE and U+FFFF, the only characters that safe_text() keeps and XML does not.
void replace_noncharacters(std::string& text) {
  for (const std::string_view bad : {"\xEF\xBF\xBE", "\xEF\xBF\xBF"}) {
    for (std::size_t at = text.find(bad); at != std::string::npos; at = text.find(bad, at))
      text.replace(at, bad.size(), bad.back() == '\xBE' ? "\\ufffe" : "\\uffff");
  }
}

// At most this many code points of each end of the text.
std::string with_ends(std::string_view text, std::size_t code_points) {
  if (text.size() <= 2 * code_points) return std::string(text);
  std::size_t head = code_points, tail = text.size() - code_points;
  const auto continues = [&](std::size_t at) { return (text[at] & 0xC0) == 0x80; };
  while (head > code_points - 3 && continues(head)) --head;
  while (tail < text.size() - code_points + 3 && continues(tail)) ++tail;
  return fmt::format("{}…{}", text.substr(0, head), text.substr(tail));
}

// The text in pieces, each with one of these characters at its end, except perhaps the last one.
std::vector<std::string_view> split(std::string_view text, std::string_view ends) {
  std::vector<std::string_view> pieces;
  while (!text.empty()) {
    const std::size_t end = text.find_first_of(ends);
    const std::size_t nbytes = end == std::string_view::npos ? text.size() : end + 1;
    pieces.push_back(text.substr(0, nbytes));
    text.remove_prefix(nbytes);
  }
  return pieces;
}

// The components in pieces that go on a line; long ones are broken within.
std::vector<std::string> line_pieces(std::span<const std::string_view> components, bool cut,
                                     std::size_t width) {
  std::vector<std::string> pieces;
  if (cut) pieces.emplace_back("…");
  for (const std::string_view component : components) {
    const bool is_long = columns(component) + (pieces.size() == 1 && cut ? 1 : 0) > width;
    for (const std::string_view piece : split(component, is_long ? ".-_" : "."))
      pieces.emplace_back(piece);
  }
  if (cut && pieces.size() > 1) {  // nothing breaks after the ellipsis
    pieces[1].insert(0, pieces[0]);
    pieces.erase(pieces.begin());
  }
  return pieces;
}

// Fills lines with pieces; empty if a piece is too long or there are too many lines.
std::vector<std::string> filled(const std::vector<std::string>& pieces, const LabelRoom& room) {
  std::vector<std::string> lines;
  for (const std::string& piece : pieces) {
    if (columns(piece) > room.columns) return {};
    if (lines.empty() || columns(lines.back()) + columns(piece) > room.columns) {
      lines.emplace_back();
      if (lines.size() > room.lines) return {};
    }
    lines.back() += piece;
  }
  return lines;
}

}  // namespace

std::string picture_text(std::string_view text) {
  std::string safe = shortened(safe_text(with_ends(text, kMaxCodePoints)), kMaxColumns);
  replace_noncharacters(safe);
  return safe;
}

std::string escaped_markup(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::vector<std::string> label_lines(std::string_view name, const LabelRoom& room) {
  if (room.lines == 0 || room.columns < kMinColumns) return {};
  const bool cut = name.size() > kMaxLabel;
  const std::string shown = picture_text(cut ? name.substr(name.size() - kMaxLabel) : name);
  const std::vector<std::string_view> parts = split(shown, ".");
  // The last component alone says little: every other one is a "weight".
  const std::size_t least = std::min<std::size_t>(parts.size(), 2);
  for (std::size_t first = 0; first + least <= parts.size() && !parts.empty(); ++first) {
    const bool is_cut = first != 0 || cut;
    std::vector<std::string> lines =
        filled(line_pieces(std::span(parts).subspan(first), is_cut, room.columns), room);
    if (!lines.empty()) return lines;
  }
  if (parts.size() != 1 || room.columns < 2 * kMinColumns) return {};
  return {shortened(parts[0], room.columns)};
}

}  // namespace flatbed::tool
