// What `flatbed bench` measured, and its two forms: a table for people, one JSON object for
// programs. Plain data.
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
  BenchRun first;  // of the first round, which finds the file as it lies
  BenchRun last;
  std::vector<double> rates;  // GB/s of the rounds after the first; not empty
};

struct BenchFindings {
  std::uint64_t tensors = 0;
  std::uint64_t nbytes = 0;
  SealState seal = SealState::unsealed;
  std::vector<BenchRow> rows;  // the automatic load first
  std::vector<std::string> notes;
};

void write_text(const BenchFindings& findings, const BenchOptions& options, Output& output);
// Of a failure: without findings.
void write_json(const BenchFindings& findings, const BenchOptions& options,
                const std::optional<Error>& error, Output& output);

// Of the whole command.
[[nodiscard]] ExitCode exit_code(const std::optional<Error>& error);

}  // namespace flatbed::tool
