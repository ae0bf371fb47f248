#include "job_text.hpp"

#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <cstdint>
#include <utility>

#include "format_text.hpp"

namespace flatbed::tool {
namespace {

namespace dom = simdjson::dom;

// More than there are.
constexpr std::size_t kMaxOptions = 100;

Error wrong(std::string message) { return {ErrorCode::invalid_argument, std::move(message)}; }

std::string_view kind_of(const dom::element& value) {
  switch (value.type()) {
    case dom::element_type::ARRAY:
      return "a list";
    case dom::element_type::OBJECT:
      return "an object";
    case dom::element_type::STRING:
      return "a string";
    case dom::element_type::BOOL:
      return "true or false";
    case dom::element_type::NULL_VALUE:
      return "null";
    default:
      return "a number";
  }
}

// No option takes a text with a zero byte, which would end it where the system reads it.
Result<std::string> text_of(const dom::element& value, std::string_view key) {
  std::string_view text;
  if (value.get(text) != simdjson::SUCCESS)
    return wrong(fmt::format("{}: found {}, expected a string", key, kind_of(value)));
  if (text.find('\0') != std::string_view::npos)
    return wrong(fmt::format("{}: found a string with a zero byte", key));
  return std::string(text);
}

Result<std::string> path_of(const dom::element& value, std::string_view key) {
  FLATBED_ASSIGN(std::string path, text_of(value, key));
  if (path.empty()) return wrong(fmt::format("{}: the path is empty", key));
  return path;
}

Result<JobOption> option_of(std::string_view key, const dom::element& value) {
  JobOption option{std::string(key), std::nullopt, {}};
  const std::string place = fmt::format("options: {}", safe_text(key));
  bool flag = false;
  std::uint64_t number = 0;
  dom::array list;
  if (value.get(flag) == simdjson::SUCCESS) {
    option.flag = flag;
  } else if (value.get(number) == simdjson::SUCCESS) {
    option.values.push_back(fmt::format("{}", number));
  } else if (value.get(list) == simdjson::SUCCESS) {
    for (const dom::element item : list) {
      FLATBED_ASSIGN(std::string text, text_of(item, place));
      option.values.push_back(std::move(text));
    }
  } else {
    FLATBED_ASSIGN(std::string text, text_of(value, place));
    option.values.push_back(std::move(text));
  }
  return option;
}

Result<std::vector<JobOption>> options_of(const dom::element& value) {
  dom::object object;
  if (value.get(object) != simdjson::SUCCESS)
    return wrong(fmt::format("options: found {}, expected an object", kind_of(value)));
  std::vector<JobOption> options;
  for (const auto& [key, member] : object) {
    if (std::ranges::find(options, key, &JobOption::key) != options.end())
      return wrong(fmt::format("options: {} is there twice", quoted_text(key, 80)));
    if (options.size() == kMaxOptions)
      return wrong(fmt::format("options: found more than {}", kMaxOptions));
    FLATBED_ASSIGN(JobOption option, option_of(key, member));
    options.push_back(std::move(option));
  }
  return options;
}

Result<JobText> job_of(const dom::object& object) {
  JobText job;
  bool has_in = false, has_out = false, has_options = false;
  const auto once = [](bool& seen, std::string_view key) -> Result<void> {
    if (std::exchange(seen, true)) return wrong(fmt::format("'{}' is there twice", key));
    return {};
  };
  for (const auto& [key, value] : object) {
    if (key == "in") {
      FLATBED_TRY(once(has_in, key));
      FLATBED_ASSIGN(job.input, path_of(value, key));
    } else if (key == "out") {
      FLATBED_TRY(once(has_out, key));
      FLATBED_ASSIGN(job.output, path_of(value, key));
    } else if (key == "options") {
      FLATBED_TRY(once(has_options, key));
      FLATBED_ASSIGN(job.options, options_of(value));
    } else {
      return wrong(
          fmt::format("unknown key {}, expected in, out and options", quoted_text(key, 80)));
    }
  }
  if (!has_in) return wrong("'in' is missing");
  return job;
}

}  // namespace

bool JobText::has_flag(std::string_view key) const {
  return std::ranges::any_of(
      options, [&](const JobOption& option) { return option.key == key && option.flag == true; });
}

bool JobText::has_option(std::string_view key) const {
  return std::ranges::find(options, key, &JobOption::key) != options.end();
}

struct JobParser::State {
  dom::parser parser;
};

JobParser::JobParser() : state_(std::make_unique<State>()) {}
JobParser::~JobParser() = default;

Result<JobText> JobParser::parse(std::string_view line) {
  dom::element root;
  const simdjson::error_code failed = state_->parser.parse(line.data(), line.size()).get(root);
  if (failed != simdjson::SUCCESS) {
    return wrong(fmt::format("not valid JSON: {}", simdjson::error_message(failed)));
  }
  dom::object object;
  if (root.get(object) != simdjson::SUCCESS)
    return wrong(fmt::format("found {}, expected an object", kind_of(root)));
  return job_of(object);
}

}  // namespace flatbed::tool
