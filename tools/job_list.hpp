// JobList: the lines of `flatbed convert --list`, read one after the other with bounded memory,
// and what is wrong between them.
//
// A list that cannot be read twice, such as standard input, is copied to a file without a name.
// Owns the descriptor. JobList is not thread-safe.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "commands.hpp"
#include "flatbed/result.hpp"
#include "job_text.hpp"

namespace flatbed::tool {

// A line that is not blank.
struct JobLine {
  std::uint64_t number = 0;  // of the line in the file, from 1
  std::int64_t offset = 0;   // of its first byte
  std::string text;
  bool too_long = false;  // over kMaxJobNbytes; the text is cut
};

inline constexpr std::size_t kMaxJobNbytes = std::size_t{1} << 20;

class JobList {
 public:
  // "-" is standard input. Errors: those of the system.
  [[nodiscard]] static Result<JobList> open(const std::filesystem::path& path);

  JobList(JobList&& other) noexcept;
  JobList& operator=(JobList&&) = delete;
  ~JobList();

  // The next line of the part; nullopt at the end. Errors: those of reading; file_changed if the
  // file is not what it was when it was opened.
  [[nodiscard]] Result<std::optional<JobLine>> next(const PartChoice& part);

  // A line that next() has returned, by its number and offset. Errors: those of reading.
  [[nodiscard]] Result<JobLine> at(std::uint64_t number, std::int64_t offset);

  // Errors: file_changed if the file is not what it was when it was opened.
  [[nodiscard]] Result<void> check_unchanged() const;

  // Begins again.
  void rewind() noexcept;

 private:
  JobList(std::string name, int descriptor) : name_(std::move(name)), descriptor_(descriptor) {}
  Result<bool> fill();  // false: at the end
  Result<std::optional<JobLine>> next_line();

  std::string name_;  // as messages have it
  int descriptor_;
  std::int64_t nbytes_ = 0;   // with changed_, what the file was when it was opened
  std::int64_t changed_ = 0;  // nanoseconds
  std::int64_t offset_ = 0;   // of the end of buffer_
  std::string buffer_;
  std::size_t at_ = 0;       // in buffer_
  std::uint64_t lines_ = 0;  // read so far
  std::uint64_t jobs_ = 0;   // lines that are not blank
};

// A line whose job must not run because of another line.
struct JobClash {
  std::uint64_t line = 0;
  std::uint64_t other = 0;
  bool is_input = false;  // its output is the other's input; otherwise both have one output
};

struct JobListCheck {
  std::uint64_t jobs = 0;         // of the part
  std::vector<JobClash> clashes;  // of the whole list, by line
  [[nodiscard]] const JobClash* find(std::uint64_t line) const;
};

// Reads the list once. Lines that are wrong by themselves do not matter here. Needs some 50 bytes
// for each line while it runs. Errors: those of reading.
[[nodiscard]] Result<JobListCheck> check_list(JobList& list, const ConvertOptions& options);

}  // namespace flatbed::tool
