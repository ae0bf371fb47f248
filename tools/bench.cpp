// flatbed bench: measures how fast each way to load the user's file is on this machine. The ways
// take turns, so that a disturbance of the machine slows all of them alike.
#include <algorithm>

#include "bench_paths.hpp"
#include "bench_report.hpp"
#include "commands.hpp"
#include "interrupt.hpp"
#include "load_report.hpp"
#include "progress.hpp"
#include "seal_text.hpp"

namespace flatbed::tool {
namespace {

// Runs after the first round. If no file could be read with O_DIRECT there, direct and buffered
// loads are the same thing.
void drop_direct(BenchFindings& findings) {
  const auto not_direct = [](const BenchRow& row) {
    return row.path.io == IoMode::direct && row.first.files_direct == 0;
  };
  if (std::erase_if(findings.rows, not_direct) == 0) return;
  findings.notes.emplace_back(
      "this file cannot be read with O_DIRECT, so direct loads are left out");
}

Result<void> run_row(BenchRow& row, std::uint64_t nbytes, unsigned round) {
  if (interrupted()) return Error{ErrorCode::cancelled, "interrupted"};
  FLATBED_ASSIGN(row.last, row.path.run());
  if (round == 0) {
    row.first = row.last;
  } else {
    row.rates.push_back(gigabytes_per_second(nbytes, row.last.seconds));
  }
  return {};
}

// `subject` must outlive the rows in `findings`, which borrow from it.
Result<void> measure(const BenchOptions& options, BenchSubject& subject, BenchFindings& findings) {
  findings.tensors = subject.checkpoint().tensors().size();
  findings.nbytes = subject.nbytes();
  findings.seal = subject.checkpoint().seal();
  for (BenchPath& path : subject.paths()) findings.rows.push_back({std::move(path), {}, {}, {}});
  ProgressLine progress("measuring", 1, options.form == Form::text && !options.quiet);
  Progress done;
  for (unsigned round = 0; round <= options.runs; ++round) {
    const std::uint64_t rounds_left = options.runs + 1 - round;
    done.bytes_total = done.bytes_done + rounds_left * findings.rows.size() * findings.nbytes;
    for (BenchRow& row : findings.rows) {
      FLATBED_TRY(run_row(row, findings.nbytes, round));
      done.bytes_done += findings.nbytes;
      progress.update(0, done);
    }
    if (round == 0) drop_direct(findings);
  }
  return {};
}

}  // namespace

ExitCode run_bench(const BenchOptions& options, Output& output) {
  catch_interrupts();
  BenchFindings findings;
  std::optional<Error> error;
  Result<std::unique_ptr<BenchSubject>> subject = BenchSubject::open(options);
  if (!subject) {
    error = with_way_out(subject.error());
  } else if (const Result<void> done = measure(options, **subject, findings); !done) {
    error = done.error();
  }
  if (options.form == Form::json) {
    write_json(findings, options, error, output);
  } else if (!error) {
    write_text(findings, options, output);
  }
  if (error) print_error(*error);
  return exit_code(error);
}

}  // namespace flatbed::tool
