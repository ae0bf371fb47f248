// Lays out a page of help:
//
//   DESCRIPTION
//   Usage: flatbed COMMAND [OPTIONS] FILE...
//
//   Positionals:, Options: or Subcommands:
//     -j, --jobs N              what it does, wrapped at 100 columns
//
//   FOOTER, each of its lines wrapped at 100 columns
#include "help_text.hpp"

#include <algorithm>
#include <string_view>
#include <vector>

#include "command_table.hpp"
#include "format_text.hpp"

namespace flatbed::tool {
namespace {

constexpr std::size_t kTextColumn = 28;
constexpr std::size_t kLastColumn = 100;

// The text in lines of whole words that fit into `width` columns.
std::vector<std::string> wrapped(std::string_view text, std::size_t width) {
  std::vector<std::string> lines(1);
  while (!text.empty()) {
    const std::string_view word = text.substr(0, text.find(' '));
    text.remove_prefix(std::min(text.size(), word.size() + 1));
    const std::size_t used = columns(lines.back());
    if (used > 0 && used + 1 + columns(word) > width) lines.emplace_back();
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
    for (const std::string& line : wrapped(row.text, kLastColumn - kTextColumn)) {
      page += padded(left, kTextColumn) + line + '\n';
      left.clear();
    }
  }
}

void append_footer(std::string& page, std::string_view footer) {
  page += '\n';
  while (!footer.empty()) {
    const std::string_view line = footer.substr(0, footer.find('\n'));
    footer.remove_prefix(std::min(footer.size(), line.size() + 1));
    if (columns(line) <= kLastColumn) {
      page.append(line) += '\n';
      continue;
    }
    for (const std::string& part : wrapped(line, kLastColumn)) page += part + '\n';
  }
}

// -j, --jobs N
std::string option_text(const ArgumentRow& option) {
  std::string text;
  for (const std::string& name : option.names) text += (text.empty() ? "" : ", ") + name;
  return option.value.empty() ? text : text + ' ' + option.value;
}

}  // namespace

std::string HelpText::make_help(const CLI::App* app, std::string, CLI::AppFormatMode) const {
  const CommandRow own = command_row(*app);
  std::vector<Row> positionals, options, commands;
  std::string usage = "[OPTIONS]";
  for (const ArgumentRow& positional : own.positionals) {
    positionals.push_back({positional.names[0], positional.text});
    usage += ' ' + usage_text(positional);
  }
  for (const ArgumentRow& option : own.options)
    options.push_back({option_text(option), option.text});
  for (const CommandRow& command : command_table(*app))
    commands.push_back({command.name, command.text});
  usage = commands.empty() ? "flatbed " + own.name + ' ' + usage : "flatbed [OPTIONS] SUBCOMMAND";

  std::string page = own.text + "\nUsage: " + usage + '\n';
  append_section(page, "Positionals", positionals);
  append_section(page, "Options", options);
  append_section(page, "Subcommands", commands);
  append_footer(page, own.footer);
  return page;
}

}  // namespace flatbed::tool
