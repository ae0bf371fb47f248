#include "match_command_line.hpp"

#include "commands.hpp"
#include "read_command_line.hpp"
#include "remote_command_line.hpp"
#include "renames.hpp"

namespace flatbed::tool {
namespace {

void add_choices(CLI::App& match, MatchCommandOptions& options) {
  match
      .add_option("--select", options.select,
                  "Only the part of the tree at this dotted path; of a whole model its state dict")
      ->type_name("PATH");
  add_globs(match, options.include, options.exclude);
  add_rename_options(match, options.renames);
}

void add_meanings(CLI::App& match, MatchCommandOptions& options) {
  CLI::Option* strict =
      match.add_flag("--strict")
          ->description("Missing, unexpected and mismatched tensors all count: the default");
  match
      .add_flag("--partial", options.partial,
                "Only mismatched tensors count, and at least one tensor must match")
      ->excludes(strict);
  match.add_flag("--torch", options.torch,
                 "Count as load_state_dict of torch 2.14 does; see below");
  match.add_flag("--exact-dtype", options.exact_dtype, "Another dtype is a mismatch");
  match.add_flag("--ignore-mismatched-sizes", options.ignore_mismatched_sizes,
                 "Show tensors of another shape, but do not count them");
  match.add_flag(
      "--ready-sets", options.ready_sets,
      "Strip or add module., _orig_mod., model. or state_dict. if more names match then");
}

}  // namespace

void add_match(CLI::App& app, CommandLine::Parsed& parsed) {
  MatchCommandOptions& options = parsed.match;
  CLI::App* match = app.add_subcommand(
      "match", "Compare names, shapes and dtypes of a checkpoint with what is expected");
  match->add_option("FILE", options.path, "A checkpoint, as for ls")->required()->type_name("");
  match
      ->add_option("--expect", options.expect,
                   "Another checkpoint, or a .json file of expectations; see below")
      ->required()
      ->type_name("EXPECTED");
  add_choices(*match, options);
  add_meanings(*match, options);
  match->add_flag("--all", options.all, "Show every tensor that does not match, not the first 20");
  match->add_flag("--json", parsed.as_json, "Print one JSON object");
  add_remote(*match, parsed.match.remote);
  match->footer(
      "Expectations are JSON: {\"fc.weight\": {\"shape\": [8, 5], \"dtype\": \"F32\"}, ...}; null "
      "or a member that is left out means any. An index of shards (*.index.json) is a "
      "checkpoint.\n"
      "Aliases of the checkpoint are names like others. With --torch they are keys only in PyTorch "
      "files, tied names that are absent are missing, a tensor of one dimension fits an expected "
      "scalar, and a missing num_batches_tracked of an old module is forgiven.\n"
      "If most names are missing, the last lines say with which prefixes more would match.\n\n"
      "Exit codes: 0 all match, 1 not, or one of the files cannot be read, 2 the command line is "
      "wrong.\n\n"
      "The JSON object has schema, command, exit_code, error, path, expect, meaning, dtypes, "
      "expected, matched (counts), complete, missing_keys, unexpected_keys, mismatched [{name, "
      "expected {shape, dtype}, found {shape, dtype}, ignored}], forgiven, applied and suggested "
      "{strip, add, matches_before, matches, reason}, near_names [{missing, near}]. error is null "
      "where the two were compared.");
}

}  // namespace flatbed::tool
