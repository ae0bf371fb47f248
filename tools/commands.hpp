// The subcommands: the options of each and the function that runs it. A command writes its result
// to the Output, reports errors on standard error, and returns the tool's exit code.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cast_text.hpp"
#include "exit_code.hpp"
#include "flatbed/collective.hpp"
#include "flatbed/load.hpp"
#include "flatbed/series.hpp"
#include "load_words.hpp"
#include "open_input.hpp"
#include "output.hpp"

namespace flatbed::tool {

// The form of results: text for people or one JSON object for programs.
enum class Form : std::uint8_t { text, json };

// The order in which ls lists tensors: as the checkpoint has them, by name, the largest first, or
// as their bytes lie in the files.
enum class LsSort : std::uint8_t { none, name, size, offset };

// One of the options that rename tensors, in the order of the command line: see renames.hpp.
struct RenameWord {
  enum class Kind : std::uint8_t { rule, file, strip_prefix, add_prefix };
  Kind kind = Kind::rule;
  std::string text;  // the option's value
};

struct LsOptions {
  std::vector<std::filesystem::path> paths;
  std::string select;  // the part of the tree to list; empty: everything
  std::vector<std::string> include;
  std::vector<std::string> exclude;
  std::vector<RenameWord> renames;
  LsSort sort = LsSort::none;
  bool summary = false;  // totals only
  bool stats = false;    // read every tensor for its smallest and largest value and mean
  bool tree = false;     // at most one of tree, json, hex and map
  bool json = false;
  bool hex = false;
  bool map = false;  // the bytes of each module as bars
  bool all = false;  // with tree: show every entry
  RemoteChoice remote;
};
[[nodiscard]] ExitCode run_ls(const LsOptions& options, Output& output);

struct VerifyCommandOptions {
  std::vector<std::filesystem::path> paths;
  Form form = Form::text;
  bool quiet = false;  // report only files with a byte that is wrong or was not checked
  unsigned threads = 2;
  RemoteChoice remote;
};
[[nodiscard]] ExitCode run_verify(const VerifyCommandOptions& options, Output& output);

struct DiffCommandOptions {
  std::filesystem::path a;
  std::filesystem::path b;
  std::string select;  // of both: the part of the tree to compare; empty: everything
  std::vector<std::string> include;
  std::vector<std::string> exclude;
  std::vector<RenameWord> renames;  // of `a`
  bool values = false;              // also say how far values differ
  bool ignore_seal = false;
  bool quiet = false;  // say it by the exit code alone
  Form form = Form::text;
  unsigned threads = 2;
  RemoteChoice remote;
};
[[nodiscard]] ExitCode run_diff(const DiffCommandOptions& options, Output& output);

struct ScanCommandOptions {
  std::vector<std::filesystem::path> paths;
  Form form = Form::text;
  bool quiet = false;      // report only files that are not plain
  bool recursive = false;  // of folders, scan the folders in them too
  RemoteChoice remote;
};
[[nodiscard]] ExitCode run_scan(const ScanCommandOptions& options, Output& output);

struct CatOptions {
  std::filesystem::path path;
  std::string name;
  std::string select;  // the part of the tree that holds the tensor; empty: everything
  bool verify = true;
  bool ignore_seal = false;
  bool force = false;  // write binary data even to a terminal
  RemoteChoice remote;
};
[[nodiscard]] ExitCode run_cat(const CatOptions& options, Output& output);

// The jobs of a list that one worker does: those whose number is `index` modulo `count`.
struct PartChoice {
  std::uint64_t index = 0;  // below `count`
  std::uint64_t count = 1;
};

struct ConvertOptions {
  std::vector<std::filesystem::path> paths;  // IN... or IN OUT
  std::filesystem::path output;              // empty: chosen by the paths; likewise for out_dir
  std::filesystem::path out_dir;
  std::filesystem::path list;    // of jobs, in place of paths; "-" is standard input
  PartChoice part;               // of the list
  std::filesystem::path report;  // for the results of the list's jobs; empty: none
  unsigned jobs = 1;
  std::string select;
  std::vector<std::string> include;
  std::vector<std::string> exclude;
  std::vector<RenameWord> renames;
  CastChoice cast;
  bool whole = false;  // keep a module as an object, not as its state dict
  bool dry_run = false;
  bool seal = true;
  std::uint64_t max_shard_nbytes = 0;  // write a sharded set into the folder `output`; 0: a file
  bool expand_aliases = false;
  bool allow_expansion = false;
  bool allow_large_header = false;
  bool sidecar = false;
  bool allow_conversion = false;  // this and the next two: only for PyTorch outputs
  bool unsafe_objects = false;
  bool keep_device = false;
  bool strict_crc = false;
  bool ignore_crc = false;   // not with strict_crc
  bool ignore_seal = false;  // read the inputs as if they were not sealed
  bool sync = true;
  bool force = false;
  bool checksum = false;  // compare every byte of an existing output, not samples
  bool quiet = false;
  Form form = Form::text;
  RemoteChoice remote;
  Collective* ranks = nullptr;  // that share the work on `list`; null: this process alone
};
[[nodiscard]] ExitCode run_convert(const ConvertOptions& options, Output& output);

struct LoadCommandOptions {
  std::vector<std::filesystem::path> paths;  // all loaded by one plan
  DeviceName device;                         // for every tensor that `map` does not place
  std::vector<DeviceMapping> map;
  std::string select;
  std::vector<std::string> include;
  std::vector<std::string> exclude;
  std::vector<RenameWord> renames;
  CastChoice cast;
  std::optional<SliceChoice> slice;
  IoMode io = IoMode::automatic;
  std::uint64_t staging_nbytes = LoadOptions{}.staging_nbytes;
  std::uint64_t slot_nbytes = 0;  // 0: the library chooses; likewise for threads
  unsigned threads = 0;
  Verify verify = Verify::yes;
  bool ignore_seal = false;  // with it, `verify` is no
  bool digests = false;
  bool quiet = false;
  Form form = Form::text;
  RemoteChoice remote;
};
[[nodiscard]] ExitCode run_load(const LoadCommandOptions& options, Output& output);

struct MatchCommandOptions {
  std::filesystem::path path;
  std::filesystem::path expect;  // a checkpoint, or a .json file of expectations
  std::string select;
  std::vector<std::string> include;
  std::vector<std::string> exclude;
  std::vector<RenameWord> renames;
  bool partial = false;      // what is missing or unexpected does not count
  bool torch = false;        // MatchMeaning::torch
  bool exact_dtype = false;  // DtypePolicy::exact
  bool ignore_mismatched_sizes = false;
  bool ready_sets = false;
  bool all = false;  // show every name, not the first ones of each list
  Form form = Form::text;
  RemoteChoice remote;
};
[[nodiscard]] ExitCode run_match(const MatchCommandOptions& options, Output& output);

struct MapCommandOptions {
  std::filesystem::path path;
  std::filesystem::path output;  // .html or .svg
  std::filesystem::path diff;    // another checkpoint; empty: the colours are dtypes
  std::string select;
  std::vector<std::string> include;
  std::vector<std::string> exclude;
  std::vector<RenameWord> renames;  // of `path`
  bool by_shard = false;
  bool force = false;
  Form form = Form::text;
  RemoteChoice remote;
};
[[nodiscard]] ExitCode run_map(const MapCommandOptions& options, Output& output);

// What `flatbed series` does with a folder of checkpoints.
enum class SeriesAction : std::uint8_t { list, latest, best, save, prune, roll_back, verify };
inline constexpr std::size_t kSeriesActions = 7;
[[nodiscard]] std::string_view word_of(SeriesAction action);  // "roll-back"

struct SeriesCommandOptions {
  std::filesystem::path folder;
  SeriesAction action = SeriesAction::list;
  std::string argument;         // save: the checkpoint to add
  std::uint64_t step = 0;       // save, roll_back
  std::optional<double> score;  // save
  SeriesOptions series;         // of save and prune; the progress is not set
  bool dry_run = false;         // prune
  unsigned threads = 2;         // verify
  Form form = Form::text;
};
[[nodiscard]] ExitCode run_series(const SeriesCommandOptions& options, Output& output);

struct BenchOptions {
  std::filesystem::path path;
  DeviceName device;
  unsigned runs = 5;
  std::vector<unsigned> threads;  // empty: 1, 2, 4... up to the number of cores
  bool ignore_seal = false;
  bool quiet = false;  // no progress line
  Form form = Form::text;
};
[[nodiscard]] ExitCode run_bench(const BenchOptions& options, Output& output);

}  // namespace flatbed::tool
