// One line of `flatbed convert --list`: a job as a JSON object. doc/jobs.schema.json describes it.
//
//   {"in": "a.pth", "out": "a.safetensors", "options": {"dtype": "bf16", "exclude": ["*.bias"]}}
//
// Plain data, and a parser that keeps its memory for the next line. Not thread-safe.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "flatbed/result.hpp"

namespace flatbed::tool {

// A member of "options". convert_command_line.hpp knows which there are.
struct JobOption {
  std::string key;
  std::optional<bool> flag;         // true or false
  std::vector<std::string> values;  // a text, a number of bytes, or a list of texts
};

struct JobText {
  std::string input;
  std::string output;  // empty: chosen as on the command line
  std::vector<JobOption> options;

  // Whether the job says so itself: that an option is true, or what it is.
  [[nodiscard]] bool has_flag(std::string_view key) const;
  [[nodiscard]] bool has_option(std::string_view key) const;
};

class JobParser {
 public:
  JobParser();
  JobParser(const JobParser&) = delete;
  JobParser& operator=(const JobParser&) = delete;
  ~JobParser();

  // Errors: invalid_argument.
  [[nodiscard]] Result<JobText> parse(std::string_view line);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace flatbed::tool
