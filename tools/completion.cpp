#include "completion.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <string_view>
#include <vector>

#include "command_table.hpp"

namespace flatbed::tool {
namespace {

// `text` with a backslash before each of `characters`, for a single-quoted word of a shell.
std::string escaped(std::string_view text, std::string_view characters) {
  std::string out;
  for (const char c : text) {
    if (characters.find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

// In single quotes of bash and zsh a quote ends the word, stands escaped outside and begins it
// again.
std::string zsh_text(std::string_view text) {
  std::string out;
  for (const char c : escaped(text, "[]:\\")) {
    if (c == '\'') {
      out += "'\\''";
    } else {
      out += c;
    }
  }
  return out;
}

std::vector<std::string> option_names(const CommandRow& command) {
  std::vector<std::string> names;
  for (const ArgumentRow& option : command.options)
    names.insert(names.end(), option.names.begin(), option.names.end());
  return names;
}

// The lines for the words of a command that are no options. The first words after a command
// replace those that the shell has itself, names of files; of others the place counts.
std::string bash_positionals(const CommandRow& command) {
  std::string lines;
  for (std::size_t i = 0; i < command.positionals.size(); ++i) {
    const std::vector<std::string>& words = command.positionals[i].words;
    if (words.empty()) continue;
    lines += fmt::format("    {}:{}:*) words=\"{}\" ;;\n", command.name,
                         i == 0 ? "*" : fmt::format("{}", i + 1), fmt::join(words, " "));
  }
  return lines;
}

// " \ ':value:(a b)' \ '*:file:_files'"
std::string zsh_positionals(const CommandRow& command) {
  const auto has_words = [](const ArgumentRow& row) { return !row.words.empty(); };
  const auto last =
      std::find_if(command.positionals.rbegin(), command.positionals.rend(), has_words);
  std::string text;
  for (auto row = command.positionals.begin(); row != last.base(); ++row) {
    text += " \\\n        ";
    text += row->words.empty() ? "':file:_files'"
                               : fmt::format("':value:({})'", fmt::join(row->words, " "));
  }
  if (last.base() != command.positionals.end() || text.empty())
    text += " \\\n        '*:file:_files'";
  return text;
}

// Fish does not know places: words of later ones are offered beside names of files.
std::string fish_positionals(const CommandRow& command, std::string_view seen) {
  std::string lines;
  for (std::size_t i = 0; i < command.positionals.size(); ++i) {
    const std::vector<std::string>& words = command.positionals[i].words;
    if (words.empty()) continue;
    lines += fmt::format("{}{} -a '{}'\n", seen, i == 0 ? " -f" : "", fmt::join(words, " "));
  }
  return lines;
}

std::vector<std::string> names_of(const std::vector<CommandRow>& commands) {
  std::vector<std::string> names;
  for (const CommandRow& command : commands) names.push_back(command.name);
  return names;
}

bool takes_file(const ArgumentRow& option) {
  return option.value == "DIR" || option.value == "OUT" || option.value == "FILE" ||
         option.value == "EXPECTED";
}

// "'(-q --quiet)'{-q,--quiet}'[what it does]:N:(a b)'"
std::string zsh_option(const ArgumentRow& option) {
  std::string rest = fmt::format("[{}]", zsh_text(option.text));
  if (!option.value.empty()) {
    const bool files = takes_file(option);
    const std::string values = !option.words.empty()
                                   ? fmt::format("({})", fmt::join(option.words, " "))
                                   : std::string(files ? "_files" : " ");
    rest += fmt::format(":{}:{}", zsh_text(option.value), values);
  }
  if (option.names.size() == 1 || option.repeatable) {
    std::string text;
    for (const std::string& name : option.names)
      text += fmt::format(" '{}{}{}'", option.repeatable ? "*" : "", name, rest);
    return text.substr(1);
  }
  return fmt::format("'({})'{{{}}}'{}'", fmt::join(option.names, " "), fmt::join(option.names, ","),
                     rest);
}

std::string fish_option(const ArgumentRow& option) {
  std::string text;
  for (const std::string& name : option.names)
    text += name.starts_with("--") ? fmt::format(" -l {}", name.substr(2))
                                   : fmt::format(" -s {}", name.substr(1));
  if (!option.value.empty()) {
    const bool files = takes_file(option);
    text += files ? " -r" : " -x";
    if (!option.words.empty()) text += fmt::format(" -a '{}'", fmt::join(option.words, " "));
  }
  return text + fmt::format(" -d '{}'", escaped(option.text, "\\'"));
}

// A line for troff: no backslash, hyphen or first character of it is a command.
std::string roff_text(std::string_view text) {
  std::string out;
  if (text.starts_with('.') || text.starts_with('\'')) out += "\\&";
  for (const char c : text) {
    if (c == '\\') {
      out += "\\e";
    } else if (c == '-') {
      out += "\\-";
    } else {
      out += c;
    }
  }
  return out;
}

void append_roff_arguments(std::string& page, const std::vector<ArgumentRow>& rows) {
  for (const ArgumentRow& row : rows) {
    std::string names;
    for (const std::string& name : row.names)
      names += fmt::format("{}\\fB{}\\fR", names.empty() ? "" : ", ", roff_text(name));
    const bool option = row.names[0].starts_with('-');
    if (option && !row.value.empty()) names += fmt::format(" \\fI{}\\fR", roff_text(row.value));
    page += fmt::format(".TP\n{}\n{}\n", names, roff_text(row.text));
  }
}

// Lines of a table, which begin with blanks, keep their layout; the others are paragraphs.
void append_roff_footer(std::string& page, std::string_view footer) {
  bool table = false;
  const auto set_table = [&](bool now) {
    if (now != table) page += now ? ".PP\n.nf\n" : ".fi\n";
    table = now;
  };
  bool new_paragraph = true;
  while (!footer.empty()) {
    const std::string_view line = footer.substr(0, footer.find('\n'));
    footer.remove_prefix(std::min(footer.size(), line.size() + 1));
    set_table(line.starts_with(' '));
    if (line.empty()) {
      new_paragraph = true;
      continue;
    }
    if (new_paragraph && !table) page += ".PP\n";
    new_paragraph = false;
    page += roff_text(line) + '\n';
  }
  set_table(false);
}

}  // namespace

std::string bash_completion(const CLI::App& app) {
  const std::vector<CommandRow> commands = command_table(app);
  const std::vector<std::string> names = names_of(commands);
  std::string values, words;
  for (const CommandRow& command : commands) {
    for (const ArgumentRow& option : command.options) {
      if (option.words.empty()) continue;
      for (const std::string& name : option.names)
        values += fmt::format("    {}:{}) words=\"{}\" ;;\n", command.name, name,
                              fmt::join(option.words, " "));
    }
    words += fmt::format("    {}:*:-*) words=\"{}\" ;;\n", command.name,
                         fmt::join(option_names(command), " "));
    words += bash_positionals(command);
  }
  return fmt::format(R"(# bash completion for flatbed; made by `flatbed completion bash`
_flatbed() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}}
  local command="" words="" i
  for ((i = 1; i < COMP_CWORD; i++)); do
    case ${{COMP_WORDS[i]}} in
      {}) command=${{COMP_WORDS[i]}}; break ;;
    esac
  done
  case $command:$previous in
{}  esac
  [[ -n $words ]] || case $command:$((COMP_CWORD - i)):$current in
    :*) words="{} {}" ;;
{}  esac
  # Without words the shell completes the names of files.
  COMPREPLY=()
  [[ -z $words ]] || COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o default -F _flatbed flatbed
)",
                     fmt::join(names, "|"), values, fmt::join(option_names(command_row(app)), " "),
                     fmt::join(names, " "), words);
}

std::string zsh_completion(const CLI::App& app) {
  std::string described, cases;
  for (const CommandRow& command : command_table(app)) {
    described += fmt::format("    '{}:{}'\n", command.name, zsh_text(command.text));
    cases += fmt::format("    {})\n      _arguments -s", command.name);
    for (const ArgumentRow& option : command.options)
      cases += fmt::format(" \\\n        {}", zsh_option(option));
    cases += zsh_positionals(command) + " ;;\n";
  }
  std::string options;
  for (const ArgumentRow& option : command_row(app).options) options += ' ' + zsh_option(option);
  return fmt::format(R"(#compdef flatbed
# zsh completion for flatbed; made by `flatbed completion zsh`
_flatbed() {{
  local -a commands
  commands=(
{}  )
  if (( CURRENT == 2 )); then
    _describe command commands
    _arguments{}
    return
  fi
  local command=$words[2]
  shift words
  (( CURRENT-- ))
  case $command in
{}  esac
}}
_flatbed "$@"
)",
                     described, options, cases);
}

std::string fish_completion(const CLI::App& app) {
  std::string text = "# fish completion for flatbed; made by `flatbed completion fish`\n";
  for (const ArgumentRow& option : command_row(app).options)
    text += fmt::format("complete -c flatbed -n __fish_use_subcommand{}\n", fish_option(option));
  for (const CommandRow& command : command_table(app)) {
    text += fmt::format("complete -c flatbed -n __fish_use_subcommand -f -a {} -d '{}'\n",
                        command.name, escaped(command.text, "\\'"));
    const std::string seen =
        fmt::format("complete -c flatbed -n '__fish_seen_subcommand_from {}'", command.name);
    for (const ArgumentRow& option : command.options) text += seen + fish_option(option) + '\n';
    text += fish_positionals(command, seen);
  }
  return text;
}

std::string manual_page(const CLI::App& app) {
  const CommandRow tool = command_row(app);
  std::string page = fmt::format(
      ".TH FLATBED 1 \"\" \"{}\" \"User Commands\"\n.SH NAME\nflatbed \\- {}\n.SH SYNOPSIS\n"
      "\\fBflatbed\\fR \\fICOMMAND\\fR [\\fIOPTIONS\\fR] \\fIFILE\\fR...\n.SH OPTIONS\n",
      app.version(), roff_text(tool.text.substr(tool.text.find(' ') + 1)));
  append_roff_arguments(page, tool.options);
  append_roff_footer(page, tool.footer);
  page += ".SH COMMANDS\n";
  for (const CommandRow& command : command_table(app)) {
    page += fmt::format(".SS flatbed {} [OPTIONS]", command.name);
    for (const ArgumentRow& positional : command.positionals) page += ' ' + usage_text(positional);
    page += fmt::format("\n{}\n", roff_text(command.text));
    append_roff_arguments(page, command.positionals);
    append_roff_arguments(page, command.options);
    append_roff_footer(page, command.footer);
  }
  return page;
}

}  // namespace flatbed::tool
