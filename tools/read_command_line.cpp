#include "read_command_line.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string>
#include <string_view>

#include "commands.hpp"
#include "load_words.hpp"
#include "remote_command_line.hpp"
#include "renames.hpp"

namespace flatbed::tool {
namespace {

struct SortRow {
  std::string_view word;
  LsSort sort;
};
constexpr std::array kSorts{SortRow{"name", LsSort::name}, SortRow{"size", LsSort::size},
                            SortRow{"offset", LsSort::offset}};

void add_sort(CLI::App& ls, LsOptions& options) {
  const auto find = [](const std::string& word) {
    return std::ranges::find(kSorts, std::string_view(word), &SortRow::word);
  };
  ls.add_option_function<std::string>(
        "--sort", [&options, find](const std::string& word) { options.sort = find(word)->sort; })
      ->check([find](const std::string& word) {
        return find(word) != kSorts.end() ? "" : word + ": expected name, size or offset";
      })
      ->description("Order: by name, the largest first, or as the bytes lie in the files")
      ->type_name("name|size|offset");
}

void add_threads(CLI::App& command, unsigned& threads, std::string_view what) {
  command
      .add_option("-j,--threads", threads,
                  fmt::format("{} (1 to {}, default {})", what, kMaxThreads, threads))
      ->check(CLI::Range(1U, kMaxThreads).description(""))
      ->type_name("N");
}

void add_ls_choices(CLI::App& ls, LsOptions& options) {
  ls.add_option("--select", options.select,
                "Only the part of the tree at this dotted path; of a whole model its state dict")
      ->type_name("PATH");
  add_globs(ls, options.include, options.exclude);
  add_rename_options(ls, options.renames);
  add_sort(ls, options);
}

}  // namespace

void add_globs(CLI::App& command, std::vector<std::string>& include,
               std::vector<std::string>& exclude) {
  command.add_option("--include", include, "Only tensors that match; repeatable")
      ->allow_extra_args(false)
      ->type_name("GLOB");
  command
      .add_option("--exclude", exclude, "No tensors that match; repeatable; overrides --include")
      ->allow_extra_args(false)
      ->type_name("GLOB");
}

void add_ls(CLI::App& app, CommandLine::Parsed& parsed) {
  LsOptions& options = parsed.ls;
  CLI::App* ls = app.add_subcommand(
      "ls", "List the tensors of checkpoints: names, dtypes, shapes, sizes, and their seals");
  ls->add_option("FILE", options.paths,
                 "A .safetensors or PyTorch file, a *.index.json, a set's directory, or a URL")
      ->required()
      ->type_name("");
  add_ls_choices(*ls, options);
  CLI::Option* summary = ls->add_flag("--summary", options.summary,
                                      "Totals only: tensors, bytes, and parameters of each dtype");
  CLI::Option* stats = ls->add_flag(
      "--stats", options.stats,
      "Read every tensor: smallest and largest finite value, mean, counts of NaN and infinity");
  CLI::Option* tree = ls->add_flag(
      "--tree", options.tree,
      "Show the nested structure around the tensors, and what --select can pick; -> #1 refers "
      "to #1; not with --json or --hex");
  CLI::Option* json =
      ls->add_flag("--json", options.json, "Print one JSON object; not with --tree or --hex");
  CLI::Option* hex = ls->add_flag(
      "--hex", options.hex,
      "Show the bytes of the header and the first bytes of each tensor; not with --tree or --json");
  CLI::Option* map = ls->add_flag("--map", options.map,
                                  "Show the bytes of each module as bars; map draws a picture; not "
                                  "with --tree, --json or --hex");
  map->excludes(tree)->excludes(json)->excludes(hex)->excludes(summary)->excludes(stats);
  ls->add_flag("--all", options.all, "With --tree: every entry, nothing folded")->needs(tree);
  tree->excludes(json)->excludes(hex)->excludes(summary)->excludes(stats);
  hex->excludes(json)->excludes(summary)->excludes(stats);
  summary->excludes(stats);
  add_remote(*ls, parsed.ls.remote);
  ls->footer(
      "The last lines are totals: 6.74 B parameters are 6.74 billion elements. On a terminal, long "
      "names are cut to its width.\n"
      "The listing reads no tensor data, except for --stats, which checks no seal: verify does.\n\n"
      "Exit codes: 0 done, 1 one or more files failed, 2 the command line is wrong, 130 "
      "interrupted.\n\n"
      "The JSON object has schema, command, exit_code, error, path, container, kind, seal, "
      "tensor_count, parameters, nbytes (of all "
      "tensors), file_nbytes, dtypes [{dtype, tensors, parameters, nbytes}], tensors [{name, "
      "dtype, shape, nbytes, stored, storage, file, offset, stats {min, max, mean, nan, inf}}], "
      "aliases [{name, target}], files [{path, nbytes, seal, content, sidecar, seal_note}], "
      "metadata (without flatbed's own keys), weights [{select, kind, tensors}] (what --select "
      "PATH can pick), has_tree, tree_error, notes. Tensors with one storage number share stored "
      "bytes; file counts into files. For several FILEs it has checkpoints, a list of such "
      "objects, each with its error.");
}

void add_verify(CLI::App& app, CommandLine::Parsed& parsed) {
  VerifyCommandOptions& options = parsed.verify;
  CLI::App* verify = app.add_subcommand(
      "verify",
      "Read every byte of each file and check it against the file's seal, or a zip's CRCs");
  verify->add_option("FILE", options.paths, "Files to check, as for ls")->required()->type_name("");
  verify->add_flag("--json", parsed.as_json, "Print one JSON object");
  verify->add_flag("-q,--quiet", options.quiet,
                   "Print only files of which something is wrong or could not be checked");
  add_threads(*verify, options.threads, "Threads that read and check");
  add_remote(*verify, parsed.verify.remote);
  verify->footer(
      "Exit codes: 0 sealed and every byte matches; 1 damaged, broken, or cannot be opened; 2 the "
      "command line is wrong; 3 "
      "every byte matches but the header was changed after sealing (annotated); 8 no seal, but "
      "every record of the PyTorch zip matches the CRC that the zip states; 4 no seal that this "
      "version can check, and no CRC for some bytes; 130 interrupted. Of several files the worst "
      "counts: 1, then 4, then 8, then 3, then 0.\n"
      "A CRC is no seal: it finds damage, not a change on purpose. torch itself ignores CRCs, and "
      "can be told to write none: a storage that states 0 has none.\n\n"
      "The JSON object has schema, command, exit_code, error and files [{path, state, exit_code, "
      "error, bytes_checked, chunks_checked, chunks_reread (after damage on the way), "
      "damaged [{file, tensor, begin, end}], damaged_complete, crc {checked, read_in_part, "
      "mismatched, mismatches [{file, record, stated, found}], unstated, without [paths]}, files "
      "[{path, seal, content, seal_note}]}]; state is sealed, annotated, unsealed, newer, damaged "
      "or "
      "error.");
}

void add_diff(CLI::App& app, CommandLine::Parsed& parsed) {
  DiffCommandOptions& options = parsed.diff;
  CLI::App* diff = app.add_subcommand(
      "diff", "Show what distinguishes two checkpoints: names, dtypes, shapes, bytes, structure");
  diff->add_option("A", options.a, "A checkpoint, as for ls")->required()->type_name("");
  diff->add_option("B", options.b, "Another one, of any layout")->required()->type_name("");
  diff->add_option("--select", options.select,
                   "Only the part of both trees at this dotted path; of a whole model its state "
                   "dict")
      ->type_name("PATH");
  add_globs(*diff, options.include, options.exclude);
  add_rename_options(*diff, options.renames);
  diff->add_flag("--values", options.values,
                 "Read tensors that differ, and say how far their values do");
  diff->add_flag("--ignore-seal", options.ignore_seal,
                 "Read the files as if they were not sealed, and compare every byte");
  add_threads(*diff, options.threads, "Threads that read and compare");
  diff->add_flag("-q,--quiet", options.quiet, "Print nothing but errors");
  diff->add_flag("--json", parsed.as_json, "Print one JSON object");
  add_remote(*diff, parsed.diff.remote);
  diff->footer(
      "A line for each difference: tensors that were removed or added, with another dtype, shape "
      "or other bytes, and places of the structure with other values. Rules rename the tensors of "
      "A; structures are not compared then. An alias counts as a tensor "
      "of its name. Of sealed files the digests are compared, and no tensor data is read: verify "
      "says whether a file has the data that its digests state. Metadata is not compared.\n\n"
      "Exit codes: 0 the same; 1 they differ; 2 they cannot be compared (as for diff), or "
      "the command line is wrong; 130 interrupted.\n\n"
      "The JSON object has schema, command, exit_code, error, path_a, path_b, same, equal_tensors, "
      "tensors [{name, change, a {dtype, shape, nbytes}, b, chunks, first_chunk, values "
      "{different, max_abs, max_rel, mean_abs, worst, nans_a, nans_b}}], trees_compared, "
      "tree [{path, a, b}] (values as text), tree_complete, bytes_read; after an error only the "
      "first six. change is removed, added, dtype, shape or bytes; chunks of 262,144 bytes are "
      "counted where bytes differ.");
}

void add_cat(CLI::App& app, CommandLine::Parsed& parsed) {
  CatOptions& options = parsed.cat;
  CLI::App* cat = app.add_subcommand(
      "cat", "Write the bytes of one tensor, contiguous and little-endian, to standard output");
  cat->add_option("FILE", options.path, "A checkpoint, as for ls")->required()->type_name("");
  cat->add_option("NAME", options.name, "The tensor's name, or an alias")
      ->required()
      ->type_name("");
  cat->add_option("--select", options.select, "Look for NAME below this dotted path, as ls does")
      ->type_name("PATH");
  cat->add_flag("--no-verify", parsed.no_verify, "Do not check the bytes against the seal");
  cat->add_flag("--ignore-seal", options.ignore_seal,
                "Read the file as if it were not sealed, if it was changed after sealing");
  cat->add_flag("-f,--force", options.force, "Write to a terminal too");
  add_remote(*cat, parsed.cat.remote);
  cat->footer(
      "Bytes are checked before they are written; those of a bad chunk are never written.\n\n"
      "Exit codes: 0 done, 1 failed, 2 the command line is wrong.");
}

}  // namespace flatbed::tool
