// The results of `flatbed bench` in two forms: a table for people and one JSON object for programs.
// Plain data.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bench_paths.hpp"
#include "commands.hpp"
#include "flatbed/seal_state.hpp"

namespace flatbed::tool {

struct BenchRow {
  BenchPath path;
  BenchRun first;  // the first round, which finds the page cache as the user left it
  BenchRun last;
  std::vector<double> rates;  // GB/s of each round after the first; never empty
};

struct BenchFindings {
  std::uint64_t tensors = 0;
  std::uint64_t nbytes = 0;
  SealState seal = SealState::unsealed;
  std::vector<BenchRow> rows;  // the automatic load first
  std::vector<std::string> notes;
};

void write_text(const BenchFindings& findings, const BenchOptions& options, Output& output);
// `error` is set if the benchmark failed; then there are no findings.
void write_json(const BenchFindings& findings, const BenchOptions& options,
                const std::optional<Error>& error, Output& output);

// Describes the whole command.
[[nodiscard]] ExitCode exit_code(const std::optional<Error>& error);

}  // namespace flatbed::tool
