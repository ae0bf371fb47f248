// ListTally: what becomes of the jobs of a list: their lines on the screen and in the report as
// they end, then one table or JSON object. Keeps counts and the first failures, whatever the length
// of the list. Thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "commands.hpp"
#include "exit_code.hpp"
#include "list_job.hpp"
#include "output.hpp"
#include "progress.hpp"
#include "report_file.hpp"

namespace flatbed::tool {

class ListTally {
 public:
  // Borrows everything. `jobs` is how many there are.
  ListTally(const ConvertOptions& options, std::uint64_t jobs, ProgressLine& progress,
            Output& output);

  // Opens the report, if the options name one. Errors: those of the system.
  [[nodiscard]] Result<void> open_report();

  void add(const ListResult& result);

  // An error of the whole: the list cannot be read to its end, or the report not be written. The
  // first one counts.
  void fail(const Error& error);

  // A remark on standard error.
  void warn(std::string_view text);

  // Writes the table or the object.
  ExitCode finish();

 private:
  struct Row {
    std::uint64_t jobs = 0, tensors = 0, nbytes = 0;
  };
  struct Failure {
    std::uint64_t line = 0;
    std::string input, output;
    Error error;
  };
  static constexpr std::size_t kStatuses = 5;
  static constexpr std::size_t kMaxFailures = 100;

  [[nodiscard]] Row& row(Status status) { return rows_[static_cast<std::size_t>(status)]; }
  [[nodiscard]] ExitCode exit_code();
  void write_table();
  void write_json();

  const ConvertOptions& options_;
  std::string name_;  // of the list
  ProgressLine& progress_;
  Output& output_;
  ReportFile report_;
  std::mutex mutex_;  // guards what follows, output_ and standard error
  std::array<Row, kStatuses> rows_{};
  std::vector<Failure> failures_;  // the first ones
  std::optional<Error> error_;
};

}  // namespace flatbed::tool
