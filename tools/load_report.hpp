// What `flatbed load` found out, and its two forms: lines for people, one JSON object for programs.
// LoadOutcome owns the memory that was loaded into; for one thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "commands.hpp"
#include "flatbed/load.hpp"
#include "load_devices.hpp"
#include "load_layout.hpp"
#include "load_sources.hpp"

namespace flatbed::tool {

struct LoadOutcome {
  // In this order: what comes later borrows from what comes before.
  LoadDevices devices;
  std::vector<LoadSource> sources;
  LoadLayout layout;

  std::vector<std::string> notes;
  double allocate_seconds = 0;         // with touching the host's memory
  std::optional<LoadPlanReport> plan;  // as far as it came
  std::optional<LoadReport> report;
  std::uint64_t peak_memory_nbytes = 0;  // of the process, before digests
  std::vector<std::uint64_t> digests;    // one for each placement; empty: not asked for
  std::optional<Error> error;
};

// How much of what was loaded was compared with digests.
enum class Verified : std::uint8_t { all, some, none };
[[nodiscard]] Verified verified(const LoadOutcome& outcome, Verify asked);

// Before the load: what goes where.
void write_intent(const LoadOutcome& outcome, const LoadCommandOptions& options, Output& output);
// After it: how it went.
void write_result(const LoadOutcome& outcome, const LoadCommandOptions& options, Output& output);
// "DIGEST  NAME", with "PATH: " before the name where there are several files.
void write_digests(const LoadOutcome& outcome, Output& output);
void write_json(const LoadOutcome& outcome, const LoadCommandOptions& options, ExitCode code,
                Output& output);

// Bytes per second in units of 10^9; 0 where no time passed.
[[nodiscard]] double gigabytes_per_second(std::uint64_t nbytes, double seconds);

}  // namespace flatbed::tool
