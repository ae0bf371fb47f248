// Text for pictures: names from files as XML and HTML, and the lines of a label that fit into a
// rectangle. Pure functions, thread-safe.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace flatbed::tool {

// What stands in a picture for any bytes: at most 1,000 columns of safe_text(), without characters
// that XML forbids, not yet escaped.
[[nodiscard]] std::string picture_text(std::string_view text);

// `text` with the characters escaped that have a meaning in XML and HTML, also in attributes.
[[nodiscard]] std::string escaped_markup(std::string_view text);

// How many lines of how many columns there is room for.
struct LabelRoom {
  std::size_t columns = 0;
  std::size_t lines = 0;
};

// The dotted name, broken after dots and within long components. If there is no room for all of it,
// its first components become "…"; if there is none for the last two, there are no lines. A name of
// one component is shortened.
[[nodiscard]] std::vector<std::string> label_lines(std::string_view name, const LabelRoom& room);

}  // namespace flatbed::tool
