// One job of `flatbed convert --list`: from its line to its result. The result is plain data, which
// can be passed on between processes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "commands.hpp"
#include "convert_one.hpp"
#include "flatbed/error.hpp"
#include "flatbed/progress.hpp"
#include "job_list.hpp"

namespace flatbed::tool {

struct ListResult {
  std::uint64_t line = 0;
  Status status = Status::failed;
  std::string input;  // empty where the line does not say it; likewise for the output
  std::string output;
  std::uint64_t tensors = 0;
  std::uint64_t nbytes = 0;  // of all tensors
  std::optional<Error> error;
  std::string said;      // lines for standard output
  std::string warnings;  // lines for standard error
  std::string report;    // the line for --report
};

class ListJobs {
 public:
  // Borrows both.
  ListJobs(const ConvertOptions& options, const JobListCheck& check)
      : options_(options), check_(check) {}

  // Runs the job of the line on the calling thread and on threads for the data. nullopt: another
  // worker is writing its output. Thread-safe; every failure is in the result.
  [[nodiscard]] std::optional<ListResult> run(const JobLine& line,
                                              const ProgressCallback& progress) const;

 private:
  [[nodiscard]] Result<ConvertOptions> read(const JobLine& line, ListResult& result) const;

  const ConvertOptions& options_;
  const JobListCheck& check_;
};

}  // namespace flatbed::tool
