// Lays out a page of help:
//
//   DESCRIPTION
//   Usage: flatbed COMMAND [OPTIONS] FILE...
//
//   Positionals:, Options: or Subcommands:
//     -j, --jobs N              what it does, wrapped at 100 columns
//
//   FOOTER, as it is
#include "help_text.hpp"

#include <algorithm>
#include <string_view>
#include <vector>

#include "format_text.hpp"

namespace flatbed::tool {
namespace {

constexpr std::size_t kTextColumn = 28;
constexpr std::size_t kLastColumn = 100;

// The text in lines that fit between kTextColumn and kLastColumn.
std::vector<std::string> wrapped(std::string_view text) {
  std::vector<std::string> lines(1);
  while (!text.empty()) {
    const std::string_view word = text.substr(0, text.find(' '));
    text.remove_prefix(std::min(text.size(), word.size() + 1));
    const std::size_t used = columns(lines.back());
    if (used > 0 && kTextColumn + used + 1 + columns(word) > kLastColumn) lines.emplace_back();
    if (!lines.back().empty()) lines.back() += ' ';
    lines.back() += word;
  }
  return lines;
}

struct Row {
  std::string left;  // two columns in; the text begins on the next line where this is too long
  std::string text;
};

void append_section(std::string& page, std::string_view title, const std::vector<Row>& rows) {
  if (rows.empty()) return;
  page += "\n" + std::string(title) + ":\n";
  for (const Row& row : rows) {
    std::string left = "  " + row.left;
    if (columns(left) + 2 > kTextColumn) {
      page += left + '\n';
      left.clear();
    }
    for (const std::string& line : wrapped(row.text)) {
      page += padded(left, kTextColumn) + line + '\n';
      left.clear();
    }
  }
}

// FILE, or FILE... where several can be given.
std::string positional_text(const CLI::Option& option) {
  return option.get_name(true) + (option.get_expected_max() > 1 ? "..." : "");
}

// -j, --jobs N
std::string option_text(const CLI::Option& option) {
  std::string text;
  for (const std::string& name : option.get_snames()) text += (text.empty() ? "-" : ", -") + name;
  for (const std::string& name : option.get_lnames()) text += (text.empty() ? "--" : ", --") + name;
  const bool is_flag = option.get_type_size_max() == 0;
  return is_flag ? text : text + ' ' + option.get_type_name();
}

}  // namespace

std::string HelpText::make_help(const CLI::App* app, std::string, CLI::AppFormatMode) const {
  std::vector<Row> positionals;
  std::vector<Row> options;
  std::string usage = "[OPTIONS]";
  for (const CLI::Option* option : app->get_options()) {
    if (option->get_positional()) {
      positionals.push_back({positional_text(*option), option->get_description()});
      usage += ' ' + positionals.back().left;
    } else {
      options.push_back({option_text(*option), option->get_description()});
    }
  }
  std::vector<Row> commands;
  for (const CLI::App* command : app->get_subcommands({}))
    commands.push_back({command->get_name(), command->get_description()});
  usage = commands.empty() ? "flatbed " + app->get_name() + ' ' + usage
                           : "flatbed [OPTIONS] SUBCOMMAND";

  std::string page = app->get_description() + "\nUsage: " + usage + '\n';
  append_section(page, "Positionals", positionals);
  append_section(page, "Options", options);
  append_section(page, "Subcommands", commands);
  page += '\n' + app->get_footer();
  if (!page.ends_with('\n')) page += '\n';
  return page;
}

}  // namespace flatbed::tool
