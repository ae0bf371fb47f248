#include "series_text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <string_view>

#include "element_text.hpp"
#include "format_text.hpp"

namespace flatbed::tool {
namespace {

constexpr std::size_t kGap = 2;
constexpr std::size_t kMinNameColumns = 16;  // narrower terminals break the lines
constexpr std::size_t kColumns = 7;          // the last is the name; marks follow it

struct Line {
  std::array<std::string, kColumns> cells;
  std::string marks;
};

std::string marks_text(const SeriesRow& row) {
  return fmt::format("{}{}{}", row.latest ? "latest" : "", row.latest && row.best ? ", " : "",
                     row.best ? "best" : "");
}

std::string name_text(const SeriesEntry& entry) {
  return safe_text(entry.path.filename().native()) + (entry.is_set ? "/" : "");
}

std::vector<Line> lines_of(const std::vector<SeriesRow>& rows) {
  std::vector<Line> lines{
      {{"STEP", "SCORE", "EPOCH", "SIZE", "SEALED", "SAVED AT (UTC)", "NAME"}, ""}};
  for (const SeriesRow& row : rows) {
    const SeriesEntry& entry = row.entry;
    lines.push_back({{number_text(entry.step), score_text(entry.score),
                      entry.epoch ? fmt::format("{}", *entry.epoch) : "-", size_text(entry.nbytes),
                      row.error ? "no" : "yes", saved_at_text(entry.saved_at), name_text(entry)},
                     marks_text(row)});
  }
  return lines;
}

void write_line(const Line& line, const std::array<std::size_t, kColumns>& widths,
                std::size_t name_width, Output& output) {
  std::string text;
  for (std::size_t i = 0; i + 1 < kColumns; ++i) {
    text.append(kGap, ' ');
    append_padded(text, line.cells[i], widths[i]);
  }
  text.append(kGap, ' ');
  const std::string name = shortened(line.cells.back(), name_width);
  if (line.marks.empty()) {
    text += name;
  } else {
    append_padded(text, name, std::min(widths.back(), name_width) + kGap);
    text += line.marks;
  }
  output.write(text + '\n');
}

void write_lines(const std::vector<Line>& lines, std::size_t width, Output& output) {
  std::array<std::size_t, kColumns> widths{};
  std::size_t marks = 0;
  for (const Line& line : lines) {
    for (std::size_t i = 0; i < kColumns; ++i)
      widths[i] = std::max(widths[i], columns(line.cells[i]));
    marks = std::max(marks, line.marks.empty() ? 0 : kGap + line.marks.size());
  }
  std::size_t name_width = widths.back();
  if (width != 0) {
    std::size_t others = kColumns * kGap + marks;
    for (std::size_t i = 0; i + 1 < kColumns; ++i) others += widths[i];
    name_width = std::min(name_width, std::max(width - std::min(width, others), kMinNameColumns));
  }
  for (const Line& line : lines) write_line(line, widths, name_width, output);
}

std::string summary_text(const SeriesTable& table) {
  std::uint64_t nbytes = 0;
  for (const SeriesRow& row : table.rows) nbytes += row.entry.nbytes;
  std::string text = count_text(table.rows.size(), "checkpoint");
  if (!table.rows.empty()) text += fmt::format(", {}", size_text(nbytes));
  const SeriesListing& listing = table.listing;
  if (listing.metric) {
    text += fmt::format("; the {} {} is the best",
                        listing.mode == ScoreMode::max ? "highest" : "lowest",
                        quoted_text(*listing.metric, 64));
  }
  return text;
}

}  // namespace

void write_table(const SeriesTable& table, std::size_t width, Output& output) {
  if (!table.rows.empty()) {
    write_lines(lines_of(table.rows), width, output);
    output.write("\n");
  }
  output.write(summary_text(table) + '\n');
}

std::string entry_text(const SeriesEntry& entry) {
  return fmt::format("{}: step {}, {}", path_text(entry.path), number_text(entry.step),
                     size_text(entry.nbytes));
}

std::string saved_at_text(std::int64_t milliseconds) {
  using std::chrono::floor;
  constexpr std::int64_t kYear0 = -62'167'219'200'000;  // its first millisecond
  constexpr std::int64_t kYear10000 = 253'402'300'800'000;
  if (milliseconds < kYear0 || milliseconds >= kYear10000) return "-";
  const std::chrono::sys_time<std::chrono::milliseconds> time{
      std::chrono::milliseconds(milliseconds)};
  const auto day = floor<std::chrono::days>(time);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss clock(floor<std::chrono::seconds>(time - day));
  return fmt::format("{:04}-{:02}-{:02} {:02}:{:02}:{:02}", static_cast<int>(date.year()),
                     static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                     clock.hours().count(), clock.minutes().count(), clock.seconds().count());
}

std::string score_text(const std::optional<double>& score) {
  return score ? real_text(*score) : "-";
}

}  // namespace flatbed::tool
