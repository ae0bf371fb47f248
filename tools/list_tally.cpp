#include "list_tally.hpp"

#include <fmt/format.h>

#include <cstdio>
#include <utility>

#include "convert_text.hpp"
#include "format_text.hpp"
#include "interrupt.hpp"
#include "json_out.hpp"
#include "totals.hpp"

namespace flatbed::tool {
namespace {

// In the order of the table.
constexpr std::array kInTable{Status::converted, Status::planned, Status::up_to_date,
                              Status::failed, Status::not_started};

std::string part_text(const PartChoice& part) {
  return fmt::format("{}/{}", part.index, part.count);
}

void write_stderr(std::string_view text) { std::fwrite(text.data(), 1, text.size(), stderr); }

}  // namespace

ListTally::ListTally(const ConvertOptions& options, std::uint64_t jobs, ProgressLine& progress,
                     Output& output)
    : options_(options),
      name_(options.list == "-" ? "standard input" : path_text(options.list)),
      progress_(progress),
      output_(output) {
  row(Status::not_started).jobs = jobs;
}

Result<void> ListTally::open_report() {
  if (options_.report.empty()) return {};
  return report_.open(options_.report);
}

void ListTally::add(const ListResult& result) {
  if (const Result<void> written = report_.append(result.report); !written) fail(written.error());
  const std::lock_guard lock(mutex_);
  --row(Status::not_started).jobs;
  Row& sum = row(result.status);
  ++sum.jobs;
  if (result.status != Status::failed) {
    sum.tensors += result.tensors;
    add_up(sum.nbytes, result.nbytes);
  }
  progress_.clear();
  write_stderr(result.warnings);
  if (result.error) {
    Error error = with_context(fmt::format("{}: line {}", name_, result.line), *result.error);
    print_error(error);
    if (failures_.size() < kMaxFailures)
      failures_.push_back({result.line, result.input, result.output, *result.error});
  }
  if (options_.quiet || options_.form == Form::json) return;
  output_.write(result.said);
  static_cast<void>(output_.flush());  // so that logs grow line by line; main() reports errors
}

void ListTally::fail(const Error& error) {
  const std::lock_guard lock(mutex_);
  if (error_) return;
  error_ = error;
  progress_.clear();
  print_error(error);
}

void ListTally::warn(std::string_view text) {
  const std::lock_guard lock(mutex_);
  progress_.clear();
  write_stderr(warning_text(options_.list, text));
}

ExitCode ListTally::finish() {
  const std::lock_guard lock(mutex_);
  progress_.clear();
  if (options_.form == Form::json) {
    write_json();
  } else if (!options_.quiet) {
    write_table();
  }
  return exit_code();
}

ExitCode ListTally::exit_code() {
  if (interrupted()) return ExitCode::interrupted;
  if (error_) return ExitCode::failure;
  return row(Status::failed).jobs == 0 ? ExitCode::ok : ExitCode::some_failed;
}

void ListTally::write_table() {
  output_.write(
      fmt::format("\n{:<11}  {:>11}  {:>13}  {:>10}\n", "STATUS", "JOBS", "TENSORS", "SIZE"));
  for (const Status status : kInTable) {
    const Row& sum = row(status);
    if (sum.jobs == 0) continue;
    const bool counted = status != Status::failed && status != Status::not_started;
    output_.write(fmt::format("{:<11}  {:>11}  {:>13}  {:>10}\n", words_of(status),
                              number_text(sum.jobs), counted ? number_text(sum.tensors) : "-",
                              counted ? size_text(sum.nbytes) : "-"));
  }
  for (const Failure& failure : failures_) {  // again: the first time may be far above by now
    output_.write(fmt::format("failed: line {}: {} [{}]\n", failure.line,
                              safe_text(failure.error.message), name(failure.error.code)));
  }
  const std::uint64_t left = row(Status::failed).jobs - failures_.size();
  if (left != 0) output_.write(fmt::format("and {} more\n", count_text(left, "failure")));
}

void ListTally::write_json() {
  JsonWriter json(output_);
  json.begin_result("convert").path("list", options_.list);
  json.key("part").text(part_text(options_.part));
  std::uint64_t jobs = 0;
  for (const Row& sum : rows_) jobs += sum.jobs;
  json.key("jobs").number(jobs);
  for (const Status status : kInTable) json.key(name(status)).number(row(status).jobs);
  json.key("failures").begin_array();
  for (const Failure& failure : failures_) {
    json.begin_object().key("line").number(failure.line);
    json.path("input", failure.input).path("output", failure.output);
    json.key("error").error(failure.error).end_object();
  }
  json.end_array();
  const auto first = failures_.empty() ? std::nullopt : std::optional(failures_[0].error);
  json.end_result(exit_code(), error_ ? error_ : first);
}

}  // namespace flatbed::tool
