#include "map_picture.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "format_text.hpp"
#include "map_drawing.hpp"
#include "map_legend.hpp"
#include "map_text.hpp"

namespace flatbed::tool {
namespace {

constexpr double kMargin = 20;
constexpr double kMapTop = 72;
constexpr double kLineHeight = 18;
constexpr double kColumnWidth = 7.4;  // of the legend's font

std::string title_text(const MapSubject& subject) {
  std::string title = picture_text(subject.path.native());
  if (!subject.compared.empty())
    title += fmt::format(", compared with {}", picture_text(subject.compared));
  return shortened(title, 110);
}

std::string facts_text(const MapSubject& subject) {
  const ModuleNode& root = subject.tree.nodes[0];
  const std::uint64_t tensors = subject.checkpoint.tensors().size();
  std::string text = fmt::format("{}, {} parameters, {}", count_text(tensors, "tensor"),
                                 amount_text(root.parameters), size_text(root.nbytes));
  if (subject.checkpoint.files().size() > 1)
    text += fmt::format(" in {}", count_text(subject.checkpoint.files().size(), "shard"));
  if (root.tensors == 0) return text + "; there are no bytes to show";
  if (subject.tree.empty != 0)
    text += fmt::format("; {} of 0 bytes {} not shown", count_text(subject.tree.empty, "tensor"),
                        verb_text(subject.tree.empty, "is", "are"));
  return text;
}

std::string colour_rules(const MapPaint& paint) {
  std::string rules;
  for (std::size_t i = 0; i < paint.groups.size(); ++i)
    rules += fmt::format(".c{}{{fill:{}}}", i, paint.groups[i].colour);
  return rules + fmt::format(".cm{{fill:{}}}", kMixedColour);
}

// The legend as text at fixed columns, which begins at `top`. Returns where it ends.
class SvgLegend {
 public:
  SvgLegend(double top, std::string& out) : y_(top), out_(out) {}

  double write(const std::vector<LegendTable>& tables) {
    for (const LegendTable& table : tables) {
      std::vector<std::size_t> widths(table.heads.size());
      widen(table.heads, widths);
      for (const LegendRow& row : table.rows) widen(row.cells, widths);
      write_row(table.heads, widths, "h");
      for (const LegendRow& row : table.rows) {
        if (!row.colour.empty())
          out_ += fmt::format("<rect x=\"{}\" y=\"{}\" width=\"12\" height=\"12\" fill=\"{}\"/>\n",
                              kMargin, y_ - 10, row.colour);
        write_row(row.cells, widths, "k");
      }
      if (!table.rest.empty()) write_row({table.rest}, widths, "k");
      y_ += kLineHeight / 2;
    }
    return y_;
  }

 private:
  static void widen(const std::vector<std::string>& cells, std::vector<std::size_t>& widths) {
    for (std::size_t i = 0; i < cells.size(); ++i)
      widths[i] = std::max(widths[i], columns(cells[i]));
  }

  void write_row(const std::vector<std::string>& cells, const std::vector<std::size_t>& widths,
                 std::string_view style) {
    double x = kMargin + 20;
    for (std::size_t i = 0; i < cells.size(); ++i) {
      const double width = static_cast<double>(widths[i]) * kColumnWidth;
      const bool is_number = i != 0;  // which stands at the right of its column
      out_ += fmt::format("<text class=\"{}{}\" x=\"{:.6g}\" y=\"{:.6g}\">{}</text>\n", style,
                          is_number ? " e" : "", is_number ? x + width : x, y_,
                          escaped_markup(cells[i]));
      x += width + 24;
    }
    y_ += kLineHeight;
  }

  double y_;
  std::string& out_;
};

constexpr std::string_view kSvgRules =
    "text{font-family:'DejaVu Sans Mono',Menlo,Consolas,monospace;fill:#16191d}"
    ".a{font-size:18px;font-weight:bold}.b{font-size:13px}"
    ".k{font-size:12px}.h{font-size:11px;fill:#5b6470}.e{text-anchor:end}";

std::string svg(const MapSubject& subject) {
  const Drawing drawing = map_drawing(subject);
  std::string legend;
  const double bottom = SvgLegend(kMapTop + kMapArea.height + 30, legend)
                            .write(map_legend(subject.checkpoint, subject.paint, drawing.mixed));
  const double width = kMapArea.width + 2 * kMargin;
  std::string out = fmt::format(
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1:.0f}\" "
      "viewBox=\"0 0 {0} {1:.0f}\">\n<title>{2}</title>\n<style>{3}{4}{5}</style>\n"
      "<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
      "<text class=\"a\" x=\"{6}\" y=\"30\">{2}</text>\n"
      "<text class=\"b\" x=\"{6}\" y=\"54\">{7}</text>\n",
      width, bottom + 4, escaped_markup(title_text(subject)), kSvgRules, kDrawingRules,
      colour_rules(subject.paint), kMargin, escaped_markup(facts_text(subject)));
  out += fmt::format("<g transform=\"translate({} {})\">\n{}</g>\n", kMargin, kMapTop,
                     drawing.elements);
  return out + legend + "</svg>\n";
}

std::string html_table(const LegendTable& table) {
  std::string out = "<table>\n<tr>";
  for (const std::string& head : table.heads) out += fmt::format("<th>{}</th>", head);
  out += "</tr>\n";
  for (const LegendRow& row : table.rows) {
    out += "<tr>";
    for (std::size_t i = 0; i < row.cells.size(); ++i) {
      const std::string swatch =
          i == 0 && !row.colour.empty()
              ? fmt::format("<span style=\"background:{}\"></span>", row.colour)
              : "";
      out += fmt::format("<td>{}{}</td>", swatch, escaped_markup(row.cells[i]));
    }
    out += "</tr>\n";
  }
  out += "</table>\n";
  if (!table.rest.empty()) out += fmt::format("<p>{}</p>\n", escaped_markup(table.rest));
  return out;
}

constexpr std::string_view kHtmlRules =
    "body{margin:20px;background:#fff;color:#16191d;font:14px sans-serif}"
    "h1{font-size:18px;overflow-wrap:anywhere}svg{display:block;width:100%;height:auto}"
    "svg text{font-family:'DejaVu Sans Mono',Menlo,Consolas,monospace;fill:#16191d}"
    "table{margin-top:16px;border-spacing:0}"
    "td,th{padding:2px 24px 2px 0;text-align:right;font-variant-numeric:tabular-nums}"
    "td:first-child,th:first-child{text-align:left}th{font-size:11px;color:#5b6470}"
    "span{display:inline-block;width:12px;height:12px;margin-right:8px}"
    ".t:hover{stroke:#16191d;stroke-width:2}";

// The policy keeps a browser from running or fetching anything, whatever a name may say.
std::string html(const MapSubject& subject) {
  const Drawing drawing = map_drawing(subject);
  std::string out = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" "
      "content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
      "<title>{0}</title>\n<style>{1}{2}{3}</style>\n</head>\n<body>\n<h1>{0}</h1>\n<p>{4}</p>\n",
      escaped_markup(title_text(subject)), kHtmlRules, kDrawingRules, colour_rules(subject.paint),
      escaped_markup(facts_text(subject)));
  out += fmt::format("<svg viewBox=\"0 0 {} {}\">\n{}</svg>\n", kMapArea.width, kMapArea.height,
                     drawing.elements);
  for (const LegendTable& table : map_legend(subject.checkpoint, subject.paint, drawing.mixed))
    out += html_table(table);
  return out + "</body>\n</html>\n";
}

}  // namespace

std::string map_picture(const MapSubject& subject, PictureForm form) {
  return form == PictureForm::svg ? svg(subject) : html(subject);
}

}  // namespace flatbed::tool
