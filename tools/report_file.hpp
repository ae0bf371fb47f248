// ReportFile: the file of `flatbed convert --report`, to which any number of workers append lines.
// Each line is one write() at the file's end, and begins on a line of its own even where a worker
// was killed within its last one. On file systems that several machines share, appending is not one
// step: there each worker needs a report of its own. Owns the descriptor. Thread-safe.
#pragma once

#include <filesystem>
#include <mutex>
#include <string>
#include <string_view>

#include "flatbed/result.hpp"

namespace flatbed::tool {

class ReportFile {
 public:
  ReportFile() = default;  // takes lines and writes none
  ReportFile(const ReportFile&) = delete;
  ReportFile& operator=(const ReportFile&) = delete;
  ~ReportFile();

  // Makes the file if it is missing. Errors: those of the system; invalid_argument for a file whose
  // last line is not one of a report.
  [[nodiscard]] Result<void> open(const std::filesystem::path& path);

  // `line` ends with a line break. Errors: no_space, io_error; then later lines are not written.
  [[nodiscard]] Result<void> append(std::string_view line);

 private:
  std::mutex mutex_;
  std::string name_;  // as messages have it
  int descriptor_ = -1;
};

}  // namespace flatbed::tool
