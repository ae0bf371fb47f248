// flatbed load: loads tensors into host or GPU memory, verifies them on the way, and reports the
// speed. It does what an engine's load() would do, without the engine.
#include <fmt/format.h>

#include <chrono>

#include "commands.hpp"
#include "format_text.hpp"
#include "interrupt.hpp"
#include "load_digest.hpp"
#include "load_report.hpp"
#include "progress.hpp"
#include "seal_text.hpp"

namespace flatbed::tool {
namespace {

// Adds facts that the figures do not show.
void add_notes(const LoadCommandOptions& options, LoadOutcome& outcome) {
  for (const LoadSource& source : outcome.sources) {
    for (const std::string& note : source.checkpoint.notes()) {
      outcome.notes.push_back(fmt::format("{}: {}", source.path.native(), note));
    }
  }
  for (const DeviceMapping& mapping : options.map) {
    bool found = false;
    for (const LoadSource& source : outcome.sources) {
      for (const std::string& home : source.homes) found = found || home == mapping.from;
    }
    if (found) continue;
    outcome.notes.push_back(
        fmt::format("--map {}={} has no effect: the tree places no tensor on {}", mapping.from,
                    device_text(mapping.to), mapping.from));
  }
}

LoadOptions load_options(const LoadCommandOptions& options, ProgressLine& progress) {
  LoadOptions load_options;
  load_options.verify = options.verify;
  load_options.io = options.io;
  load_options.threads = options.threads;
  load_options.staging_nbytes = options.staging_nbytes;
  load_options.slot_nbytes = options.slot_nbytes;
  load_options.progress = progress.callback(0);
  load_options.cancel = &interrupted();
  return load_options;
}

// Does everything up to the load. Then `outcome` says what will be loaded.
Result<LoadPlan> prepare(const LoadCommandOptions& options, LoadOutcome& outcome) {
  FLATBED_ASSIGN(outcome.sources, open_sources(options));
  FLATBED_ASSIGN(outcome.layout, lay_out(outcome.sources, options));
  add_notes(options, outcome);
  const auto begin = std::chrono::steady_clock::now();
  FLATBED_TRY(allocate(outcome.layout, outcome.devices));
  outcome.allocate_seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return make_load_plan(outcome.sources, outcome.layout);
}

Result<void> add_digests(LoadOutcome& outcome) {
  for (const Placement& place : outcome.layout.placements) {
    Device& device = *outcome.layout.shares[place.share].device;
    FLATBED_ASSIGN(const std::uint64_t digest,
                   digest_on_device(device, outcome.layout.data(place), place.nbytes));
    outcome.digests.push_back(digest);
  }
  return {};
}

Result<void> run(const LoadCommandOptions& options, LoadOutcome& outcome, Output& output) {
  const bool talks = options.form == Form::text && !options.quiet;
  ProgressLine progress("loading", 1, talks);
  const LoadOptions how = load_options(options, progress);
  FLATBED_ASSIGN(const LoadPlan plan, prepare(options, outcome));
  FLATBED_ASSIGN(outcome.plan, plan.check(how));
  if (talks) {
    write_intent(outcome, options, output);
    static_cast<void>(output.flush());  // main() reports errors
  }
  FLATBED_ASSIGN(outcome.report, load(plan, how));
  outcome.peak_memory_nbytes = peak_memory();
  progress.clear();
  if (talks) write_result(outcome, options, output);
  for (const std::string& warning : cast_warnings(outcome.report->casts))
    print_warning(options.paths.front(), warning);
  if (options.digests) FLATBED_TRY(add_digests(outcome));
  return {};
}

}  // namespace

ExitCode run_load(const LoadCommandOptions& options, Output& output) {
  catch_interrupts();
  LoadOutcome outcome;
  ExitCode code = ExitCode::ok;
  const Result<void> loaded = run(options, outcome, output);
  if (!loaded) {
    outcome.error = with_way_out(loaded.error());
    const bool stopped = loaded.error().code == ErrorCode::cancelled;
    code = stopped ? ExitCode::interrupted : ExitCode::failure;
  }
  if (options.form == Form::json) {
    write_json(outcome, options, code, output);
    if (outcome.error) print_error(*outcome.error);
    return code;
  }
  if (outcome.error) {
    static_cast<void>(output.flush());  // what was written comes before the error
    print_error(*outcome.error);
  } else {
    write_digests(outcome, output);
  }
  return code;
}

}  // namespace flatbed::tool
