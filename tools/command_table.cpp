#include "command_table.hpp"

#include <algorithm>

namespace flatbed::tool {
namespace {

// "a|b|c" in three words; other texts name a kind of value and have none.
std::vector<std::string> choices(const std::string& type) {
  std::vector<std::string> words;
  if (type.find('|') == std::string::npos) return words;
  for (std::size_t begin = 0; begin <= type.size();) {
    const std::size_t end = std::min(type.find('|', begin), type.size());
    words.push_back(type.substr(begin, end - begin));
    begin = end + 1;
  }
  return words;
}

ArgumentRow argument_row(const CLI::Option& option) {
  ArgumentRow row;
  row.text = option.get_description();
  const bool is_flag = option.get_type_size_max() == 0;
  if (!is_flag) row.value = option.get_type_name();
  row.words = choices(row.value);
  row.required = option.get_required();
  row.repeatable = option.get_expected_max() > 1 || option.get_trigger_on_parse();
  if (option.get_positional()) {
    row.names = {option.get_name(true) + (row.repeatable ? "..." : "")};
    return row;
  }
  for (const std::string& name : option.get_snames()) row.names.push_back("-" + name);
  for (const std::string& name : option.get_lnames()) row.names.push_back("--" + name);
  return row;
}

}  // namespace

std::string usage_text(const ArgumentRow& positional) {
  return positional.required ? positional.names[0] : "[" + positional.names[0] + "]";
}

CommandRow command_row(const CLI::App& app) {
  CommandRow row{app.get_name(), app.get_description(), app.get_footer(), {}, {}};
  for (const CLI::Option* option : app.get_options()) {
    std::vector<ArgumentRow>& rows = option->get_positional() ? row.positionals : row.options;
    rows.push_back(argument_row(*option));
  }
  return row;
}

std::vector<CommandRow> command_table(const CLI::App& app) {
  std::vector<CommandRow> rows;
  for (const CLI::App* command : app.get_subcommands({})) rows.push_back(command_row(*command));
  return rows;
}

}  // namespace flatbed::tool
