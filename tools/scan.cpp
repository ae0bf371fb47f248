// flatbed scan: reports what loading a file with Python would import and call, with a verdict.
#include "flatbed/scan.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>

#include "commands.hpp"
#include "format_text.hpp"
#include "interrupt.hpp"
#include "json_out.hpp"
#include "open_input.hpp"

namespace flatbed::tool {
namespace {

constexpr std::size_t kNameLimit = 200;
constexpr std::size_t kMaxPathWidth = 60;
constexpr std::size_t kMaxPlainNames = 12;  // names on one line

struct Scanned {
  std::filesystem::path path;
  std::optional<Error> error;
  ScanReport report;
};

// From good to bad; the worst of several files is the exit code.
constexpr std::array kBadness{ExitCode::ok, ExitCode::scan_unknown, ExitCode::failure,
                              ExitCode::scan_dangerous, ExitCode::interrupted};

ExitCode worse(ExitCode a, ExitCode b) {
  const auto rank = [](ExitCode code) { return std::find(kBadness.begin(), kBadness.end(), code); };
  return rank(a) < rank(b) ? b : a;
}

ExitCode exit_code(const Scanned& scanned) {
  if (scanned.error) {
    return scanned.error->code == ErrorCode::cancelled ? ExitCode::interrupted : ExitCode::failure;
  }
  switch (scanned.report.verdict) {
    case ScanVerdict::plain:
      return ExitCode::ok;
    case ScanVerdict::unknown:
      return ExitCode::scan_unknown;
    case ScanVerdict::dangerous:
      break;
  }
  return ExitCode::scan_dangerous;
}

Scanned examine(const std::filesystem::path& path, const ScanCommandOptions& options) {
  Scanned scanned;
  scanned.path = path;
  Result<ScanReport> report =
      scan_input(path, {.cancel = &interrupted(), .recursive = options.recursive}, options.remote);
  if (report) {
    scanned.report = *std::move(report);
  } else {
    scanned.error = about(path, report.error());
  }
  return scanned;
}

// Whether the report is of a folder or an index, each file of which has a line.
bool is_table(const ScanReport& report) {
  return report.files.size() > 1 || (report.files.size() == 1 && !report.files[0].scanned);
}

// The path of a file of a table from the folder that they are all in.
std::filesystem::path short_path(const Scanned& scanned, const ScannedFile& file) {
  for (const std::filesystem::path& base : {scanned.path, scanned.path.parent_path()}) {
    const std::filesystem::path path = file.path.lexically_relative(base);
    if (!path.empty() && *path.begin() != ".." && path != ".") return path;
  }
  return file.path;
}

std::uint64_t count_unscanned(const ScanReport& report) {
  const auto unscanned = [](const ScannedFile& file) { return !file.scanned; };
  return static_cast<std::uint64_t>(std::ranges::count_if(report.files, unscanned));
}

std::string full_name(const ScanFinding& finding) {
  return finding.module + "." + finding.qualname;
}

// "archive/data.pkl byte 12, opcode 3"
std::string place_text(const Scanned& scanned, const ScanFinding& finding) {
  std::string text;
  if (is_table(scanned.report))
    text = path_text(short_path(scanned, scanned.report.files[finding.file])) + ": ";
  if (!finding.record.empty()) text += quoted_text(finding.record, kNameLimit) + " ";
  const bool in_pickle = finding.kind != ScanKind::container && finding.kind != ScanKind::hidden &&
                         finding.kind != ScanKind::torchscript && finding.kind != ScanKind::code;
  if (finding.kind == ScanKind::container && !finding.record.empty()) text += "at ";
  text += fmt::format("byte {}", finding.offset);
  if (in_pickle && finding.kind != ScanKind::trailing)
    text += fmt::format(", opcode {}", finding.opcode);
  if (finding.count > 1) text += fmt::format(" ({} in all)", number_text(finding.count));
  return text;
}

std::string what_text(const ScanFinding& finding) {
  if (finding.module.empty() && finding.qualname.empty()) return safe_text(finding.text);
  return fmt::format("{} {}: {}", finding.kind == ScanKind::called ? "calls" : "imports",
                     quoted_text(full_name(finding), kNameLimit), safe_text(finding.text));
}

// The names that weights_only=True allows, on one line.
std::string plain_text(const ScanReport& report) {
  std::map<std::string, std::uint64_t> names;
  for (const ScanFinding& finding : report.findings) {
    if (finding.severity == ScanVerdict::plain && finding.kind == ScanKind::called)
      names[full_name(finding)] += finding.count;
  }
  std::string text;
  std::size_t listed = 0;
  for (const auto& [name, count] : names) {
    if (listed == kMaxPlainNames) break;
    text +=
        fmt::format("{}{} ({})", listed++ == 0 ? "" : ", ", safe_text(name), number_text(count));
  }
  if (names.size() > listed) text += fmt::format(", and {} more", names.size() - listed);
  return text;
}

// The files of a folder or an index: verdict, path, kind.
void write_table(const Scanned& scanned, bool quiet, Output& output) {
  std::size_t width = 0;
  const auto path_of = [&](const ScannedFile& file) {
    return path_text(short_path(scanned, file));
  };
  for (const ScannedFile& file : scanned.report.files)
    width = std::max(width, std::min(path_of(file).size(), kMaxPathWidth));
  for (const ScannedFile& file : scanned.report.files) {
    if (quiet && file.verdict == ScanVerdict::plain) continue;
    std::string what = file.scanned ? safe_text(file.what) : "not scanned: " + safe_text(file.what);
    if (file.pickles != 0) what += ", " + count_text(file.pickles, "pickle");
    output.write(
        fmt::format("  {:<9} {:<{}}  {}\n", name(file.verdict), path_of(file), width, what));
  }
}

void write_text(const Scanned& scanned, bool quiet, Output& output) {
  if (scanned.error) {
    print_error(*scanned.error);
    return;
  }
  const ScanReport& report = scanned.report;
  std::uint64_t pickles = 0;
  for (const ScannedFile& file : report.files) pickles += file.pickles;
  const std::uint64_t unscanned = count_unscanned(report);
  std::string what = is_table(report) ? count_text(report.files.size() - unscanned, "file")
                                      : safe_text(report.files[0].what);
  what += ", " + (pickles == 0 ? "no pickles found" : count_text(pickles, "pickle"));
  if (unscanned != 0) what += fmt::format(", {} not scanned", number_text(unscanned));
  output.write(fmt::format("{}: {}: {}\n", path_text(scanned.path), name(report.verdict), what));
  if (is_table(report)) write_table(scanned, quiet, output);
  for (const ScanFinding& finding : report.findings) {
    if (finding.severity == ScanVerdict::plain) break;
    if (!report.files[finding.file].scanned) continue;  // its line in the table says it all
    output.write(fmt::format("  {:<9} {}\n            {}\n", name(finding.severity),
                             what_text(finding), place_text(scanned, finding)));
  }
  if (!report.findings_complete) output.write("  and more of the same\n");
  if (const std::string plain = plain_text(report); !plain.empty() && !quiet)
    output.write(fmt::format("  plain     calls {}\n", plain));
}

void write_finding(const ScanFinding& finding, JsonWriter& json) {
  json.begin_object().key("severity").text(name(finding.severity));
  json.key("kind").text(name(finding.kind));
  json.key("module").text(finding.module).key("qualname").text(finding.qualname);
  json.key("file").number(finding.file).named("record", finding.record);
  json.key("offset").number(finding.offset).key("opcode").number(finding.opcode);
  json.key("count").number(finding.count).key("text").text(finding.text).end_object();
}

void write_json(const Scanned& scanned, JsonWriter& json) {
  json.begin_object().path("path", scanned.path);
  json.key("verdict");
  scanned.error ? json.null() : json.text(name(scanned.report.verdict));
  json.key("exit_code").number(static_cast<std::uint64_t>(exit_code(scanned)));
  json.key("error");
  scanned.error ? json.error(*scanned.error) : json.null();
  json.key("files").begin_array();
  for (const ScannedFile& file : scanned.report.files) {
    json.begin_object().path("path", file.path);
    json.key("verdict").text(name(file.verdict)).key("what").text(file.what);
    json.key("pickles").number(file.pickles);
    json.key("scanned").boolean(file.scanned).end_object();
  }
  json.end_array().key("not_scanned").number(count_unscanned(scanned.report));
  json.key("findings").begin_array();
  for (const ScanFinding& finding : scanned.report.findings) write_finding(finding, json);
  json.end_array().key("findings_complete").boolean(scanned.report.findings_complete).end_object();
}

// Prints how many files have each verdict.
void write_summary(const std::map<ExitCode, std::size_t>& counts, Output& output) {
  const auto count = [&](ExitCode code) {
    const auto found = counts.find(code);
    return found == counts.end() ? std::size_t{0} : found->second;
  };
  output.write(fmt::format("{} plain, {} unknown, {} dangerous, {} not read\n", count(ExitCode::ok),
                           count(ExitCode::scan_unknown), count(ExitCode::scan_dangerous),
                           count(ExitCode::failure)));
}

}  // namespace

ExitCode run_scan(const ScanCommandOptions& options, Output& output) {
  catch_interrupts();
  ExitCode worst = ExitCode::ok;
  const bool as_json = options.form == Form::json;
  std::map<ExitCode, std::size_t> counts;
  std::optional<Error> first_error;
  JsonWriter json(output);
  if (as_json) json.begin_result("scan").key("files").begin_array();
  for (std::size_t i = 0; i < options.paths.size() && !interrupted(); ++i) {
    const Scanned scanned = examine(options.paths[i], options);
    const ExitCode code = exit_code(scanned);
    worst = worse(worst, code);
    ++counts[code];
    if (scanned.error && !first_error) first_error = scanned.error;
    if (as_json) {
      write_json(scanned, json);
      if (scanned.error) print_error(*scanned.error);
    } else if (!options.quiet || code != ExitCode::ok) {
      write_text(scanned, options.quiet, output);
      static_cast<void>(output.flush());  // so that logs grow line by line; main() reports errors
    }
  }
  if (interrupted()) worst = ExitCode::interrupted;
  if (as_json) {
    json.end_array().end_result(worst, first_error);
  } else if (options.paths.size() > 1 && !options.quiet) {
    write_summary(counts, output);
  }
  return worst;
}

}  // namespace flatbed::tool
