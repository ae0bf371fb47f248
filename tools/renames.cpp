#include "renames.hpp"

#include <array>
#include <string>
#include <string_view>

#include "flatbed/key_map.hpp"

namespace flatbed::tool {
namespace {

Result<KeyMap> map_of(const RenameWord& word) {
  KeyMap map;
  switch (word.kind) {
    case RenameWord::Kind::rule:
      return KeyMap::parse_rule(word.text);
    case RenameWord::Kind::file:
      return KeyMap::read(word.text);
    case RenameWord::Kind::strip_prefix:
      FLATBED_TRY(map.strip_prefix(word.text));
      break;
    case RenameWord::Kind::add_prefix:
      FLATBED_TRY(map.add_prefix(word.text));
      break;
  }
  return map;
}

struct OptionRow {
  RenameWord::Kind kind;
  std::string_view name;
  std::string_view value;
  std::string_view text;
};
constexpr std::array kOptions{
    OptionRow{RenameWord::Kind::rule, "--rename", "OLD=NEW",
              "Rename tensors: OLD is a glob, {1} in NEW what its first wildcard matched; "
              "repeatable; rules run in order. 'NEW=cat(OLD, OLD, dim=0)' joins tensors, "
              "'NEW, NEW=split(OLD, SIZE, SIZE, dim=0)' splits one"},
    OptionRow{RenameWord::Kind::file, "--rename-file", "FILE",
              "Rules from a file, one in a line; # begins a comment; repeatable"},
    OptionRow{RenameWord::Kind::strip_prefix, "--strip-prefix", "PREFIX",
              "Rename: take PREFIX from the names that begin with it; repeatable"},
    OptionRow{RenameWord::Kind::add_prefix, "--add-prefix", "PREFIX",
              "Rename: put PREFIX before all names; repeatable"}};

}  // namespace

void add_rename_options(CLI::App& app, std::vector<RenameWord>& words) {
  for (const OptionRow& row : kOptions) {
    const RenameWord::Kind kind = row.kind;
    // A scalar, because CLI11 would take "[ab]=[c]" for a list. It is run for each one as it is
    // parsed, which keeps the order between the options.
    app.add_option_function<std::string>(std::string(row.name),
                                         [&words, kind](const std::string& text) {
                                           words.push_back({kind, text});
                                         })
        ->trigger_on_parse()
        ->check([kind](const std::string& text) {
          if (kind == RenameWord::Kind::file) return std::string();
          const Result<KeyMap> map = map_of({kind, text});
          return map ? std::string() : map.error().message;
        })
        ->description(std::string(row.text))
        ->type_name(std::string(row.value));
  }
}

Result<Checkpoint> renamed(const Checkpoint& checkpoint, const std::vector<RenameWord>& words) {
  KeyMap map;
  for (const RenameWord& word : words) {
    FLATBED_ASSIGN(const KeyMap more, map_of(word));
    FLATBED_TRY(map.append(more));
  }
  return checkpoint.rename(map);
}

}  // namespace flatbed::tool
