#include "map_command_line.hpp"

#include <filesystem>
#include <string>

#include "commands.hpp"
#include "read_command_line.hpp"
#include "remote_command_line.hpp"
#include "renames.hpp"

namespace flatbed::tool {
namespace {

std::string complain_about_output(const std::string& path) {
  const std::filesystem::path extension = std::filesystem::path(path).extension();
  return extension == ".svg" || extension == ".html" ? "" : path + ": must end in .html or .svg";
}

void add_places(CLI::App& map, MapCommandOptions& options) {
  map.add_option("FILE", options.path, "A checkpoint, as for ls")->required()->type_name("");
  map.add_option("-o,--output", options.output, "The picture, *.html or *.svg")
      ->required()
      ->check(complain_about_output)
      ->type_name("OUT");
  map.add_flag("-f,--force", options.force, "Replace an existing OUT that differs");
}

void add_choices(CLI::App& map, MapCommandOptions& options) {
  map.add_option("--select", options.select,
                 "Only the part of the tree at this dotted path; of a whole model its state dict")
      ->type_name("PATH");
  add_globs(map, options.include, options.exclude);
  add_rename_options(map, options.renames);
  map.add_option_function<std::string>(
         "--by", [&options](const std::string& word) { options.by_shard = word == "shard"; })
      ->check([](const std::string& word) {
        return word == "module" || word == "shard" ? "" : word + ": expected module or shard";
      })
      ->description("The outermost level: the modules (default), or the shards of a set")
      ->type_name("module|shard");
  map.add_option("--diff", options.diff,
                 "Colours say what changed since this checkpoint: bytes, dtype, shape, added")
      ->type_name("OTHER");
}

}  // namespace

void add_map(CLI::App& app, CommandLine::Parsed& parsed) {
  CLI::App* map = app.add_subcommand(
      "map", "Draw where the bytes of a checkpoint are: a treemap of its modules, HTML or SVG");
  add_places(*map, parsed.map);
  add_choices(*map, parsed.map);
  map->add_flag("--json", parsed.as_json, "Print one JSON object");
  add_remote(*map, parsed.map.remote);
  map->footer(
      "The area of a tile is the share of its tensor in the bytes, its colour the dtype. Names are "
      "split at their dots; pointing at a tile shows its name, shape, parameters and bytes. "
      "Tensors that would be smaller than about 2 pixels share a tile of their module, \"12 "
      "more\". OUT is one file without scripts, and loads nothing.\n"
      "With --diff tensors that only OTHER has are listed below the picture; renames apply to "
      "FILE alone, all other choices to both. Of sealed files the digests are compared, and no "
      "tensor data is read. ls --map is a form for the terminal.\n\n"
      "Exit codes: 0 done, or OUT is up to date; 1 failed; 2 the command line is wrong, or OUT "
      "exists and differs; 130 interrupted.\n\n"
      "The JSON object has schema, command, exit_code, error, path, output, status (written, "
      "up_to_date), tensors, nbytes (of all tensors), tiles; after an error only the first six.");
}

}  // namespace flatbed::tool
