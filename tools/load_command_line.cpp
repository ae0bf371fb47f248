#include "load_command_line.hpp"

#include <fmt/format.h>

#include <functional>
#include <string>
#include <vector>

#include "commands.hpp"
#include "load_words.hpp"
#include "remote_command_line.hpp"
#include "renames.hpp"

namespace flatbed::tool {
namespace {

constexpr unsigned kMaxRuns = 1000;

// An option whose word `parse` understands; `keep` gets what it stands for. Given several times it
// is called for each, in order: expected(1) at the call forbids that.
template <typename T>
CLI::Option* add_word(CLI::App& app, const std::string& name, Result<T> (*parse)(std::string_view),
                      std::function<void(T)> keep) {
  const auto keep_all = [parse, keep](const std::vector<std::string>& words) {
    for (const std::string& word : words) keep(*parse(word));
  };
  const auto complaint = [parse](const std::string& word) {
    const Result<T> parsed = parse(word);
    return parsed ? std::string() : parsed.error().message;
  };
  return app.add_option_function<std::vector<std::string>>(name, keep_all)
      ->allow_extra_args(false)
      ->check(complaint);
}

void add_device(CLI::App& app, DeviceName& device) {
  add_word<DeviceName>(app, "--device", parse_device, [&device](DeviceName name) { device = name; })
      ->expected(1)
      ->description("Where tensors go: host or cuda:N [host]")
      ->type_name("DEVICE");
}

void add_choices(CLI::App& load, LoadCommandOptions& options) {
  add_device(load, options.device);
  add_word<DeviceMapping>(load, "--map", parse_mapping,
                          [&options](DeviceMapping mapping) { options.map.push_back(mapping); })
      ->description("Load tensors that were saved on FROM to TO: cuda:1=cuda:0; repeatable")
      ->type_name("FROM=TO");
  load.add_option(
          "--select", options.select,
          "Only the part of the tree at this dotted path; the path is removed from the names")
      ->type_name("PATH");
  load.add_option("--include", options.include, "Only tensors that match; repeatable")
      ->allow_extra_args(false)
      ->type_name("GLOB");
  load.add_option("--exclude", options.exclude,
                  "No tensors that match; repeatable; overrides --include")
      ->allow_extra_args(false)
      ->type_name("GLOB");
  add_rename_options(load, options.renames);
  add_word<SliceChoice>(load, "--slice", parse_slice,
                        [&options](SliceChoice slice) { options.slice = slice; })
      ->expected(1)
      ->description(
          "Part RANK of N of dimension DIM; tensors without it, or shorter than N there, whole; of "
          "a joined tensor, part RANK of each one that it is joined of")
      ->type_name("DIM:RANK/N");
}

}  // namespace

void add_cast(CLI::App& command, CastChoice& cast) {
  CLI::Option* dtype =
      add_word<Dtype>(command, "--dtype", parse_cast_dtype, [&cast](Dtype to) { cast.dtype = to; })
          ->expected(1)
          ->description("Cast tensors of floats to this dtype: " + cast_dtypes_text())
          ->type_name("DTYPE");
  command.add_option("--keep", cast.keep, "With --dtype: no tensors that match; repeatable")
      ->allow_extra_args(false)
      ->needs(dtype)
      ->type_name("GLOB");
}

namespace {

void add_ways(CLI::App& load, LoadCommandOptions& options) {
  add_word<IoMode>(load, "--io", parse_io, [&options](IoMode mode) { options.io = mode; })
      ->expected(1)
      ->description(
          "Read through the page cache (pread) or with O_DIRECT (direct) [auto: flatbed chooses]")
      ->type_name("auto|pread|direct");
  add_word<std::uint64_t>(load, "--staging", parse_nbytes,
                          [&options](std::uint64_t nbytes) { options.staging_nbytes = nbytes; })
      ->expected(1)
      ->description("Size of the load's staging memory, with an optional unit: K, M or G [64M]")
      ->type_name("BYTES");
  add_word<std::uint64_t>(load, "--slot", parse_nbytes,
                          [&options](std::uint64_t nbytes) { options.slot_nbytes = nbytes; })
      ->expected(1)
      ->description("Size of one piece of staging memory [chosen to fit]")
      ->type_name("BYTES");
  load.add_option("-j,--threads", options.threads,
                  fmt::format("Threads that read and check (1 to {}) [one per core]", kMaxThreads))
      ->check(CLI::Range(1U, kMaxThreads).description(""))
      ->type_name("N");
}

}  // namespace

void add_load(CLI::App& app, CommandLine::Parsed& parsed) {
  LoadCommandOptions& options = parsed.load;
  CLI::App* load = app.add_subcommand(
      "load", "Load tensors into host or GPU memory, verify them, and report the speed");
  load->add_option("FILE", options.paths, "Checkpoints, as for ls; one load for all of them")
      ->required()
      ->type_name("");
  add_choices(*load, options);
  add_cast(*load, options.cast);
  add_ways(*load, options);
  load->add_flag("--no-verify", parsed.no_verify, "Do not check the bytes against the seal");
  load->add_flag("--ignore-seal", options.ignore_seal,
                 "Read the files as if they were not sealed, for those changed after sealing");
  load->add_flag("--digests", options.digests,
                 "Print the XXH3-64 of each tensor's bytes after loading");
  load->add_flag("-q,--quiet", options.quiet, "Print nothing but digests and errors");
  load->add_flag("--json", parsed.as_json, "Print one JSON object");
  add_remote(*load, parsed.load.remote);
  load->footer(
      "Each device gets one allocation, and each tensor a place in it at a multiple of 256 "
      "bytes. A line of --digests is the XXH3-64 of the tensor's (or slice's) bytes where "
      "they arrived, two blanks, and the name, with FILE: before it when there are several "
      "files.\n\n"
      "Exit codes: 0 loaded, and every byte that has a digest matches; also when there are "
      "none (\"not verified: unsealed\"); 1 failed; 2 the command line is wrong; 130 "
      "interrupted.\n\n"
      "The JSON object has schema, command, exit_code, error, sources [{path, seal, "
      "tensors}], tensors, slice {dim, rank, count, sliced, whole}, mapped (tensors that "
      "--map names), devices [{name, tensors, nbytes, allocated_nbytes}], notes, plan "
      "{bytes_wanted, bytes_to_read, reads, peak_staging_nbytes, groups, files}, report "
      "{bytes_wanted, bytes_read, bytes_verified, chunks_verified, chunks_reread (after damage on "
      "the way), peak_staging_nbytes, files_direct, files_buffered, queued (files_direct by "
      "io_uring), no_queue (why they are not: not_built, not_in_kernel, forbidden, no_memory; else "
      "null), threads, seconds, "
      "read_seconds, hash_seconds, submit_seconds, slots_seconds, link_seconds, bottleneck, "
      "gb_per_second, casts (as that of convert)}, verified "
      "(all, some or none), unverified_reason, allocate_seconds, peak_memory_nbytes, and "
      "with --digests digests [{path, name, device, nbytes, xxh3}]. Parts that a failed load "
      "did not reach are null or missing. The seconds of a stage are the sum over all "
      "threads; GB are 10^9 bytes.");
}

void add_bench(CLI::App& app, CommandLine::Parsed& parsed) {
  BenchOptions& options = parsed.bench;
  CLI::App* bench =
      app.add_subcommand("bench", "Benchmark the ways to load a file on this machine");
  bench->add_option("FILE", options.path, "A checkpoint, as for ls")->required()->type_name("");
  add_device(*bench, options.device);
  bench
      ->add_option(
          "--runs", options.runs,
          fmt::format("Rounds after the first (1 to {}, default {})", kMaxRuns, options.runs))
      ->check(CLI::Range(1U, kMaxRuns).description(""))
      ->type_name("N");
  add_word<std::vector<unsigned>>(
      *bench, "--threads", parse_threads,
      [&options](std::vector<unsigned> threads) { options.threads = threads; })
      ->expected(1)
      ->description(
          "Numbers of threads to compare, such as 1,2,4 [1, 2, 4... up to the number of cores]")
      ->type_name("LIST");
  bench->add_flag("--ignore-seal", options.ignore_seal,
                  "Read the file as if it were not sealed; nothing is verified");
  bench->add_flag("-q,--quiet", options.quiet, "Draw no progress");
  bench->add_flag("--json", parsed.as_json, "Print one JSON object");
  bench->footer(
      "Compares load() through and past the page cache, verified and not, with a bare "
      "pread() loop, read() of each tensor, touching the mapped view(), and verify(). They "
      "take turns and write to the same memory, which is allocated and touched first, as is "
      "staging memory. The first round is shown separately: only then the file may not yet "
      "be in the page cache, from which nothing is dropped. Median, min and max are those of "
      "the other rounds.\n\n"
      "Exit codes: 0 done, 1 failed, 2 the command line is wrong, 130 interrupted.\n\n"
      "The JSON object has schema, command, exit_code, error, path, device, runs, "
      "tensors, nbytes, seal, paths [{name, verified, threads, first_gb_per_second, "
      "median_gb_per_second, min_gb_per_second, max_gb_per_second, gb_per_second []}], "
      "automatic {first, last {files_direct, files_buffered}}, fastest and fastest_verified "
      "(loads; they count into paths), notes. threads is null where load() chose. GB are "
      "10^9 bytes.");
}

}  // namespace flatbed::tool
