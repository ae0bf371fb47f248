// flatbed map: a picture of where the bytes of a checkpoint are.
#include <fmt/format.h>

#include <optional>

#include "commands.hpp"
#include "flatbed/diff.hpp"
#include "flatbed/save_text.hpp"
#include "format_text.hpp"
#include "interrupt.hpp"
#include "json_out.hpp"
#include "map_picture.hpp"
#include "open_input.hpp"
#include "progress.hpp"
#include "renames.hpp"

namespace flatbed::tool {
namespace {

namespace fs = std::filesystem;

struct Outcome {
  bool up_to_date = false;
  std::uint64_t tensors = 0, nbytes = 0, tiles = 0;
};

// Without a comparison no data is read, so a broken seal does not prevent it.
Result<Checkpoint> open_part(const fs::path& path, const MapCommandOptions& options) {
  const CheckSeal check = options.diff.empty() ? CheckSeal::off : CheckSeal::if_sealed;
  FLATBED_ASSIGN(Checkpoint checkpoint, open_input(path, {.check_seal = check}, options.remote));
  Selection selection;
  selection.path = options.select;
  selection.state_dict = !options.select.empty();
  selection.include = options.include;
  selection.exclude = options.exclude;
  if (selection.path.empty() && selection.include.empty() && selection.exclude.empty())
    return checkpoint;
  return checkpoint.select(selection);
}

Result<void> check_is_no_input(const Checkpoint& checkpoint, const fs::path& output) {
  for (const FileInfo& file : checkpoint.files()) {
    std::error_code ignored;
    if (fs::equivalent(file.path, output, ignored))
      return Error{ErrorCode::invalid_argument,
                   fmt::format("{} is an input: refusing to overwrite it", path_text(output))};
  }
  return {};
}

Result<DiffReport> compare(const Checkpoint& before, const Checkpoint& after,
                           const MapCommandOptions& options) {
  ProgressLine progress("comparing", 1, options.form == Form::text);
  DiffOptions diff_options;
  diff_options.cancel = &interrupted();
  diff_options.progress = progress.callback(0);
  return diff(before, after, diff_options);
}

// Writes the picture unless it is there. Returns whether it was.
Result<bool> write_picture(std::string_view text, const MapCommandOptions& options) {
  FLATBED_ASSIGN(const OutputState found, compare_text_output(options.output, text));
  if (found.kind == OutputKind::up_to_date) return true;
  if (found.kind == OutputKind::different && !options.force)
    return Error{ErrorCode::file_exists,
                 fmt::format("{} exists and is not what would be written: {}; --force replaces it",
                             path_text(options.output), found.difference)};
  if (interrupted()) return Error{ErrorCode::cancelled, "interrupted; nothing written"};
  FLATBED_TRY(save_text(options.output, text, {.replace = options.force}));
  return false;
}

Result<Outcome> draw(const Checkpoint& checkpoint, const MapPaint& paint,
                     const MapCommandOptions& options) {
  const ModuleTree tree =
      module_tree(checkpoint, options.by_shard ? MapLevel::shard : MapLevel::module);
  const MapLayout layout = map_layout(tree, kMapArea);
  const PictureForm form =
      options.output.extension() == ".svg" ? PictureForm::svg : PictureForm::html;
  const std::string text =
      map_picture({options.path, checkpoint, tree, layout, paint, options.diff.native()}, form);
  FLATBED_ASSIGN(const bool up_to_date, write_picture(text, options));
  return Outcome{up_to_date, checkpoint.tensors().size(), tree.nodes[0].nbytes,
                 layout.tiles.size()};
}

Result<Outcome> map_one(const MapCommandOptions& options) {
  const auto open = [&](const fs::path& path) -> Result<Checkpoint> {
    Result<Checkpoint> opened = open_part(path, options);
    if (!opened) return about(path, std::move(opened).error());
    return opened;
  };
  FLATBED_TRY(check_is_local(options.output, "--output"));
  FLATBED_ASSIGN(const Checkpoint own, open(options.path));
  const Result<Checkpoint> checkpoint = renamed(own, options.renames);
  if (!checkpoint) return about(options.path, checkpoint.error());
  FLATBED_TRY(check_is_no_input(*checkpoint, options.output));
  if (options.diff.empty()) return draw(*checkpoint, paint_dtypes(*checkpoint), options);
  FLATBED_ASSIGN(const Checkpoint before, open(options.diff));
  FLATBED_TRY(check_is_no_input(before, options.output));
  FLATBED_ASSIGN(const DiffReport report, compare(before, *checkpoint, options));
  return draw(*checkpoint, paint_changes(*checkpoint, report), options);
}

ExitCode code_of(const Result<Outcome>& outcome) {
  if (outcome) return ExitCode::ok;
  switch (outcome.error().code) {
    case ErrorCode::cancelled:
      return ExitCode::interrupted;
    case ErrorCode::file_exists:
    case ErrorCode::invalid_argument:
      return ExitCode::usage;
    default:
      return ExitCode::failure;
  }
}

}  // namespace

ExitCode run_map(const MapCommandOptions& options, Output& output) {
  catch_interrupts();
  const Result<Outcome> outcome = map_one(options);
  const ExitCode code = code_of(outcome);
  if (options.form == Form::json) {
    JsonWriter json(output);
    json.begin_result("map").path("path", options.path).path("output", options.output);
    if (outcome) {
      json.key("status").text(outcome->up_to_date ? "up_to_date" : "written");
      json.key("tensors").number(outcome->tensors);
      json.key("nbytes").number(outcome->nbytes).key("tiles").number(outcome->tiles);
    }
    json.end_result(code, outcome ? std::nullopt : std::optional(outcome.error()));
  } else if (outcome) {
    const std::string drawn =
        fmt::format("{}, {} in {}", count_text(outcome->tensors, "tensor"),
                    size_text(outcome->nbytes), count_text(outcome->tiles, "tile"));
    output.write(fmt::format("{}: {}\n", path_text(options.output),
                             outcome->up_to_date ? "up to date" : drawn));
  }
  if (!outcome) print_error(outcome.error());
  return code;
}

}  // namespace flatbed::tool
