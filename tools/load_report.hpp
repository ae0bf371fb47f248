// The results of `flatbed load` in two forms: lines for people, one JSON object for programs.
// LoadOutcome owns the memory that was loaded into. Not thread-safe.
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
  // The order matters: later members borrow from earlier ones.
  LoadDevices devices;
  std::vector<LoadSource> sources;
  LoadLayout layout;

  std::vector<std::string> notes;
  double allocate_seconds = 0;         // includes touching host memory
  std::optional<LoadPlanReport> plan;  // set once the plan was made
  std::optional<LoadReport> report;
  std::uint64_t peak_memory_nbytes = 0;  // of the process, before digests are computed
  std::vector<std::uint64_t> digests;    // one for each placement; empty unless requested
  std::optional<Error> error;
};

// How much of the loaded data was compared with digests.
enum class Verified : std::uint8_t { all, some, none };
[[nodiscard]] Verified verified(const LoadOutcome& outcome, Verify asked);

// Written before the load: what goes where.
void write_intent(const LoadOutcome& outcome, const LoadCommandOptions& options, Output& output);
// Written after the load: how it went.
void write_result(const LoadOutcome& outcome, const LoadCommandOptions& options, Output& output);
// Writes "DIGEST  NAME" lines, with "PATH: " before the name if there are several files.
void write_digests(const LoadOutcome& outcome, Output& output);
void write_json(const LoadOutcome& outcome, const LoadCommandOptions& options, ExitCode code,
                Output& output);

// Speed in units of 10^9 bytes per second; 0 if no time passed.
[[nodiscard]] double gigabytes_per_second(std::uint64_t nbytes, double seconds);

}  // namespace flatbed::tool
