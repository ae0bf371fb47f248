// flatbed verify: reads every byte of each file and reports its state (spec S6).
#include "flatbed/verify.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <vector>

#include "commands.hpp"
#include "crc_text.hpp"
#include "flatbed/checkpoint.hpp"
#include "format_text.hpp"
#include "interrupt.hpp"
#include "json_out.hpp"
#include "open_input.hpp"
#include "progress.hpp"
#include "seal_text.hpp"

namespace flatbed::tool {
namespace {

// The results for one path.
struct Finding {
  std::filesystem::path path;
  std::optional<Checkpoint> checkpoint;  // empty if it could not be opened
  std::optional<Error> error;            // if it could not be opened or read to the end
  VerifyReport report;
};

// From best to worst. The worst of several files decides the exit code.
constexpr std::array kBadness{ExitCode::ok,       ExitCode::annotated, ExitCode::crc_matches,
                              ExitCode::unsealed, ExitCode::failure,   ExitCode::interrupted};

ExitCode worse(ExitCode a, ExitCode b) {
  const auto rank = [](ExitCode code) { return std::find(kBadness.begin(), kBadness.end(), code); };
  return rank(a) < rank(b) ? b : a;
}

bool is_damaged(const Finding& finding) {
  return !finding.report.damaged.empty() || finding.report.crc.mismatched != 0;
}

// Whether a CRC was there for every byte that was read, and each matches.
bool has_clean_crcs(const Finding& finding) {
  const CrcReport& crc = finding.report.crc;
  return crc.checked != 0 && crc.mismatched == 0 && crc.read_in_part == 0 && crc.unstated == 0 &&
         crc.without.empty() && crc.unchecked_files == 0;
}

ExitCode exit_code(const Finding& finding) {
  if (finding.error) {
    return finding.error->code == ErrorCode::cancelled ? ExitCode::interrupted : ExitCode::failure;
  }
  if (is_damaged(finding)) return ExitCode::failure;
  switch (finding.checkpoint->seal()) {
    case SealState::sealed:
      return ExitCode::ok;
    case SealState::annotated:
      return ExitCode::annotated;
    case SealState::unsealed:
      return has_clean_crcs(finding) ? ExitCode::crc_matches : ExitCode::unsealed;
    case SealState::newer:
      return ExitCode::unsealed;
    case SealState::broken:
      return ExitCode::failure;
  }
  return ExitCode::failure;
}

Finding examine(const std::filesystem::path& path, const VerifyCommandOptions& options,
                ProgressLine& progress, std::size_t job) {
  Finding finding;
  finding.path = path;
  Result<Checkpoint> opened = open_input(path, {}, options.remote);
  if (!opened) {
    finding.error = about(path, opened.error());
    if (looks_rewritten(opened.error().code)) {
      finding.error->message +=
          "; if another program changed it, `flatbed convert --ignore-seal` seals it again";
    }
    return finding;
  }
  VerifyOptions verify_options;
  verify_options.threads = options.threads;
  verify_options.cancel = &interrupted();
  verify_options.progress = progress.callback(job);
  Result<VerifyReport> report = verify(*opened, verify_options);
  finding.checkpoint = *std::move(opened);
  if (report) {
    finding.report = *std::move(report);
  } else {
    finding.error = about(path, report.error());
  }
  progress.finish(job);
  return finding;
}

// The state in one word: one of the specification's, "damaged" or "error".
std::string_view state_text(const Finding& finding) {
  if (finding.error) return "error";
  if (is_damaged(finding)) return "damaged";
  return name(finding.checkpoint->seal());
}

std::string checked_text(const Finding& finding) {
  return fmt::format("{} ({}) {}", count_text(finding.report.chunks_checked, "chunk"),
                     size_text(finding.report.bytes_checked),
                     verb_text(finding.report.chunks_checked, "matches", "match"));
}

std::string seal_note(const Checkpoint& checkpoint) {
  for (const FileInfo& file : checkpoint.files()) {
    if (!file.seal_note.empty()) return safe_text(file.seal_note);
  }
  return "";
}

// The result of checking the CRCs of a zip's records.
std::string crc_detail(const CrcReport& crc) {
  if (crc.mismatched != 0) {
    return fmt::format("CRC mismatch in {} of {}", number_text(crc.mismatched),
                       count_text(crc.checked, "record"));
  }
  std::string text;
  if (crc.checked == 1) text = "the zip CRC matches";
  if (crc.checked > 1) text = fmt::format("all {} zip CRCs match", number_text(crc.checked));
  if (crc.unstated != 0) {
    text += fmt::format(
        "{}{} no CRC", text.empty() ? "" : "; ",
        count_text(crc.unstated, "storage") + (crc.unstated == 1 ? " states" : " state"));
  }
  if (!crc.without.empty()) {
    text += fmt::format("{}{} no CRCs", text.empty() ? "" : "; ",
                        crc.without.size() == 1 ? "the zip states"
                                                : fmt::format("{} zips state", crc.without.size()));
  }
  return text;
}

std::string detail_text(const Finding& finding) {
  const VerifyReport& report = finding.report;
  if (!report.damaged.empty()) {
    const std::size_t ranges = report.damaged.size();
    const bool rewritten = looks_rewritten(*finding.checkpoint, report);
    return fmt::format("{}{} {} not match{}{}", report.damaged_complete ? "" : "more than ",
                       count_text(ranges, "byte range"), verb_text(ranges, "does", "do"),
                       rewritten ? "; " : "", rewritten ? kRewrittenHint : "");
  }
  if (report.crc.mismatched != 0) return crc_detail(report.crc);
  const Checkpoint& checkpoint = *finding.checkpoint;
  if (checkpoint.seal() == SealState::unsealed) {
    const std::string crc = crc_detail(report.crc);
    if (!crc.empty()) return crc;
    return report.chunks_checked == 0 ? "nothing to check against"
                                      : "not every file is sealed; " + checked_text(finding);
  }
  if (checkpoint.seal() == SealState::newer) return seal_note(checkpoint);
  std::string text = checked_text(finding);
  if (checkpoint.files().size() == 1) {
    text += fmt::format(", content {}", checkpoint.files()[0].content);
  }
  const std::string note = seal_note(checkpoint);
  return note.empty() ? text : fmt::format("{} ({})", text, note);
}

std::string heading_text(const Finding& finding) {
  const std::string_view state = state_text(finding);
  return state == name(SealState::unsealed) ? "no seal; " : fmt::format("{}: ", state);
}

void write_text(const Finding& finding, Output& output) {
  if (finding.error) {
    print_error(*finding.error);
    return;
  }
  output.write(fmt::format("{}: {}{}\n", path_text(finding.path), heading_text(finding),
                           detail_text(finding)));
  const Checkpoint& checkpoint = *finding.checkpoint;
  for (const DamagedRange& range : finding.report.damaged) {
    output.write(fmt::format("  {}: tensor {}: bytes [{},{}) do not match\n",
                             path_text(checkpoint.files()[range.file].path),
                             quoted_text(checkpoint.tensors()[range.tensor].name, 200), range.begin,
                             range.end));
  }
  const CrcReport& crc = finding.report.crc;
  for (const CrcMismatch& mismatch : crc.mismatches) {
    output.write(
        fmt::format("  {}: record {}\n", path_text(mismatch.file), mismatch_text(mismatch)));
  }
  if (crc.mismatched > crc.mismatches.size())
    output.write(fmt::format("  and {} more\n", crc.mismatched - crc.mismatches.size()));
}

void write_json(const Finding& finding, JsonWriter& json) {
  json.begin_object().path("path", finding.path).key("state").text(state_text(finding));
  json.key("exit_code").number(static_cast<std::uint64_t>(exit_code(finding)));
  json.key("error");
  finding.error ? json.error(*finding.error) : json.null();
  json.key("bytes_checked").number(finding.report.bytes_checked);
  json.key("chunks_checked").number(finding.report.chunks_checked);
  json.key("chunks_reread").number(finding.report.chunks_reread);
  json.key("damaged").begin_array();
  for (const DamagedRange& range : finding.report.damaged) {
    const Checkpoint& checkpoint = *finding.checkpoint;
    json.begin_object().path("file", checkpoint.files()[range.file].path);
    json.key("tensor").text(checkpoint.tensors()[range.tensor].name);
    json.key("begin").number(range.begin).key("end").number(range.end).end_object();
  }
  json.end_array().key("damaged_complete").boolean(finding.report.damaged_complete);
  json.key("crc");
  write_crc_json(finding.report.crc, json);
  json.key("files").begin_array();
  if (finding.checkpoint) {
    for (const FileInfo& file : finding.checkpoint->files()) {
      json.begin_object().path("path", file.path).key("seal").text(name(file.seal));
      json.key("content");
      file.content.empty() ? json.null() : json.text(file.content);
      json.key("seal_note").text(file.seal_note).end_object();
    }
  }
  json.end_array().end_object();
}

class VerifyRun {
 public:
  VerifyRun(const VerifyCommandOptions& options, Output& output)
      : options_(options),
        output_(output),
        json_(output),
        as_json_(options.form == Form::json),
        progress_("verifying", options.paths.size(), !options.quiet && !as_json_) {
    for (std::size_t i = 0; i < options.paths.size(); ++i) progress_.expect(i, options.paths[i]);
  }

  ExitCode run() {
    if (as_json_) json_.begin_result("verify").key("files").begin_array();
    for (std::size_t i = 0; i < options_.paths.size() && !interrupted(); ++i) {
      const Finding finding = examine(options_.paths[i], options_, progress_, i);
      const ExitCode code = exit_code(finding);
      worst_ = worse(worst_, code);
      ++counts_[code == ExitCode::crc_matches ? "unsealed with matching CRCs"
                                              : state_text(finding)];
      ++examined_;
      if (finding.error && !error_) error_ = finding.error;
      progress_.clear();
      if (as_json_) {
        write_json(finding, json_);
        if (finding.error) print_error(*finding.error);
      } else if (!options_.quiet || !is_right(code)) {
        write_text(finding, output_);
        // So that logs grow line by line; run_tool() reports errors.
        static_cast<void>(output_.flush());
        if (code == ExitCode::failure) failures_.push_back(failure_text(finding));
      }
    }
    if (interrupted()) worst_ = ExitCode::interrupted;
    if (as_json_) {
      json_.end_array().end_result(worst_, error_);
    } else if (!options_.quiet && options_.paths.size() > 1) {
      write_summary();
    }
    return worst_;
  }

 private:
  // Whether every byte was checked against something and matches.
  static bool is_right(ExitCode code) {
    return code == ExitCode::ok || code == ExitCode::crc_matches;
  }

  static std::string failure_text(const Finding& finding) {
    if (finding.error) return safe_text(finding.error->message);
    return fmt::format("{}: {}", path_text(finding.path), detail_text(finding));
  }

  // The count of each state, and then what failed again, which may be far above by now.
  void write_summary() {
    std::string sum;
    for (const auto& [state, count] : counts_)
      sum += fmt::format("{}{} {}", sum.empty() ? "" : ", ", number_text(count), state);
    output_.write(fmt::format("{}: {}\n", count_text(examined_, "file"), sum));
    for (const std::string& failure : failures_)
      output_.write(fmt::format("failed: {}\n", failure));
  }

  const VerifyCommandOptions& options_;
  Output& output_;
  JsonWriter json_;
  bool as_json_;
  ProgressLine progress_;
  ExitCode worst_ = ExitCode::ok;
  std::size_t examined_ = 0;                        // before an interrupt
  std::map<std::string_view, std::size_t> counts_;  // of each state
  std::optional<Error> error_;                      // the first
  std::vector<std::string> failures_;
};

}  // namespace

ExitCode run_verify(const VerifyCommandOptions& options, Output& output) {
  catch_interrupts();
  return VerifyRun(options, output).run();
}

}  // namespace flatbed::tool
