#include "convert_one.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <thread>

#include "crc_text.hpp"
#include "describe.hpp"
#include "flatbed/checkpoint.hpp"
#include "flatbed/save_plan.hpp"
#include "flatbed/save_torch.hpp"
#include "format_text.hpp"
#include "interrupt.hpp"

namespace flatbed::tool {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kLargeHeader = std::uint64_t{5} << 20;  // spec L1: writers warn

std::uint64_t tensor_nbytes(const Checkpoint& checkpoint) {
  std::uint64_t sum = 0;
  for (const TensorInfo& tensor : checkpoint.tensors()) sum += tensor.nbytes;
  return sum;
}

std::string amount_text(const Checkpoint& checkpoint) {
  return fmt::format("{}, {}", count_text(checkpoint.tensors().size(), "tensor"),
                     size_text(tensor_nbytes(checkpoint)));
}

bool selects(const ConvertOptions& options) {
  return !options.select.empty() || !options.include.empty() || !options.exclude.empty();
}

// The output must not be one of the files that are read, under whatever name.
Result<void> check_not_input(const ConvertJob& job, const Checkpoint& input) {
  for (const FileInfo& file : input.files()) {
    std::error_code not_there;
    if (!fs::equivalent(file.path, job.output, not_there)) continue;
    return Error{
        ErrorCode::invalid_argument,
        fmt::format("refusing to overwrite {}: it is also the input", path_text(job.output))};
  }
  return {};
}

// Whether the output opens, is newer than every file that is read, and is sealed if it should be.
bool is_done(const ConvertJob& job, const Checkpoint& input, const ConvertOptions& options) {
  std::error_code failed;
  const fs::file_time_type written = fs::last_write_time(job.output, failed);
  if (failed) return false;
  std::vector<fs::path> sources{job.input};
  // Writing into a directory renews its time, so a directory does not count as a source.
  if (fs::is_directory(job.input, failed)) sources.clear();
  for (const FileInfo& file : input.files()) sources.push_back(file.path);
  for (const fs::path& source : sources) {
    const fs::file_time_type time = fs::last_write_time(source, failed);
    if (failed || time >= written) return false;
  }
  // A sidecar is read together with the file that it seals.
  const Result<Checkpoint> output = Checkpoint::open(options.sidecar ? job.input : job.output);
  const bool plain = job.torch || !options.seal;
  return output && (plain || output->seal() == SealState::sealed);
}

// Applies --select and the globs. A whole model becomes its state dict unless --whole is given.
Result<Checkpoint> choose(const Checkpoint& input, const ConvertOptions& options, bool whole_model,
                          Outcome& outcome) {
  const bool by_default = whole_model && options.select.empty() && !options.whole;
  if (!selects(options) && !by_default) return input;
  Selection selection{options.select, options.include, options.exclude};
  selection.state_dict = !options.whole && (by_default || !options.select.empty());
  FLATBED_ASSIGN(Checkpoint chosen, input.select(selection));
  const bool globs = !options.include.empty() || !options.exclude.empty();
  std::string what = options.select.empty() ? "tensors that match --include and --exclude"
                                            : safe_text(options.select);
  if (by_default) what = globs ? "matching tensors of its state dict" : "its state dict";
  if (!by_default && selection.state_dict && input.has_tree()) {
    FLATBED_ASSIGN(const Value root, input.tree());
    const Result<Value> at = root.at(options.select);
    const std::optional<std::string> module = at ? module_name(*at) : std::nullopt;
    if (module) what += fmt::format(", the state dict of whole model {}", *module);
  }
  outcome.chosen = fmt::format("{}: {}{}{}", what, amount_text(chosen),
                               chosen.has_tree() ? "" : ", as a flat state dict",
                               by_default ? "; use --whole to keep the whole object" : "");
  outcome.notes.assign(chosen.notes().begin(), chosen.notes().end());
  return chosen;
}

SaveOptions save_options(const ConvertOptions& options, const ConvertWatch& watch) {
  SaveOptions save;
  save.seal = options.seal;
  save.sync = options.sync;
  save.dry_run = options.dry_run;
  save.allow_large_header = options.allow_large_header;
  save.strict_crc = options.strict_crc;
  save.threads = std::max(2U, std::thread::hardware_concurrency()) / std::max(1U, options.jobs);
  save.threads = std::clamp(save.threads, 1U, 8U);
  save.progress = watch.progress;
  save.cancel = &interrupted();
  return save;
}

Result<void> write_torch(const ConvertJob& job, const SavePlan& plan, const ConvertOptions& options,
                         const ConvertWatch& watch, Outcome& outcome) {
  SaveTorchOptions torch;
  torch.file = save_options(options, watch);
  torch.keep_device = options.keep_device;
  torch.unsafe_objects = options.unsafe_objects     ? UnsafeObjects::keep
                         : options.allow_conversion ? UnsafeObjects::convert
                                                    : UnsafeObjects::refuse;
  FLATBED_ASSIGN(SaveTorchReport report, save_torch(job.output, plan, torch));
  outcome.report = std::move(report.file);
  outcome.tensors = static_cast<std::size_t>(report.tensors);
  outcome.nbytes = report.tensor_nbytes;
  outcome.notes.insert(outcome.notes.end(), report.notes.begin(), report.notes.end());
  outcome.status = options.dry_run ? Status::planned : Status::converted;
  return {};
}

Result<void> convert_data(const ConvertJob& job, const Checkpoint& input,
                          const ConvertOptions& options, const ConvertWatch& watch,
                          Outcome& outcome) {
  std::vector<Pick> picks = find_picks(input);
  const bool whole_model = !picks.empty() && picks[0].path.empty();
  FLATBED_ASSIGN(const Checkpoint chosen, choose(input, options, whole_model, outcome));
  if (outcome.chosen.empty() && !whole_model) outcome.weights = std::move(picks);
  outcome.tensors = chosen.tensors().size();
  outcome.nbytes = tensor_nbytes(chosen);
  FLATBED_ASSIGN(const SavePlan plan,
                 make_plan(chosen, {.expand_aliases = options.expand_aliases,
                                    .allow_expansion = options.allow_expansion}));
  if (job.torch) {
    watch.announce(outcome);
    return write_torch(job, plan, options, watch, outcome);
  }
  // Every flatbed key belongs to a seal, so a plain file cannot hold any.
  if (!options.seal && (plan.tree.size() != 0 || !plan.aliases.empty())) {
    outcome.notes.push_back(
        "without a seal the file holds only tensors: the nested structure and aliases are not "
        "written");
  }
  watch.announce(outcome);
  FLATBED_ASSIGN(outcome.report, save(job.output, plan, save_options(options, watch)));
  outcome.status = options.dry_run ? Status::planned : Status::converted;
  return {};
}

Result<void> seal_beside(const ConvertJob& job, const ConvertOptions& options,
                         const ConvertWatch& watch, Outcome& outcome) {
  watch.announce(outcome);
  if (options.dry_run) {
    outcome.status = Status::planned;
    return {};
  }
  FLATBED_ASSIGN(outcome.report, save_sidecar(job.input, save_options(options, watch)));
  outcome.status = Status::converted;
  return {};
}

void note_report(const ConvertOptions& options, Outcome& outcome) {
  for (std::string& note : crc_notes(outcome.report.crc)) outcome.notes.push_back(std::move(note));
  if (outcome.report.header_nbytes > kLargeHeader) {
    outcome.notes.push_back(
        fmt::format("the header takes {}: some readers refuse such files or open them slowly",
                    size_text(outcome.report.header_nbytes)));
  }
  if (options.sync && outcome.report.durability == Durability::durability_unknown) {
    outcome.notes.push_back("the file is complete but may not survive a power failure: " +
                            outcome.report.durability_note);
  }
}

Result<void> convert(const ConvertJob& job, const ConvertOptions& options, bool skip_if_done,
                     const ConvertWatch& watch, Outcome& outcome) {
  // The sidecar replaces any seal of the file, so a broken seal is no obstacle.
  FLATBED_ASSIGN(
      const Checkpoint input,
      Checkpoint::open(job.input,
                       {.check_seal = options.sidecar ? CheckSeal::off : CheckSeal::if_sealed}));
  FLATBED_TRY(check_not_input(job, input));
  outcome.found = fmt::format("{}: {}", describe(input), amount_text(input));
  outcome.notes.assign(input.notes().begin(), input.notes().end());
  outcome.tensors = input.tensors().size();
  outcome.nbytes = tensor_nbytes(input);
  if (skip_if_done && !options.force && is_done(job, input, options)) {
    outcome.status = Status::skipped;
    return {};
  }
  return options.sidecar ? seal_beside(job, options, watch, outcome)
                         : convert_data(job, input, options, watch, outcome);
}

}  // namespace

std::string_view name(Status status) {
  constexpr std::array<std::string_view, 5> kNames{"not_started", "converted", "planned", "skipped",
                                                   "failed"};
  return kNames[static_cast<std::size_t>(status)];
}

Outcome convert_one(const ConvertJob& job, const ConvertOptions& options, bool skip_if_done,
                    const ConvertWatch& watch) {
  const auto start = std::chrono::steady_clock::now();
  Outcome outcome;
  if (Result<void> done = convert(job, options, skip_if_done, watch, outcome); !done) {
    outcome.status = Status::failed;
    outcome.error = about(job.input, std::move(done).error());
    if (outcome.error->code == ErrorCode::cancelled) outcome.error->message += "; nothing written";
    if (outcome.error->code == ErrorCode::expansion_refused) {
      outcome.error->message += "; use --allow-expansion to allow it";
    }
    if (outcome.error->code == ErrorCode::zip_crc_mismatch) {
      outcome.error->message += "; without --strict-crc this is only a note";
    }
    if (outcome.error->code == ErrorCode::weights_only_refused) {
      outcome.error->message +=
          options.allow_conversion
              ? "; use --unsafe-objects to keep it"
              : "; use --allow-conversion to replace some objects or --unsafe-objects to keep all";
    }
  }
  if (outcome.status == Status::converted) note_report(options, outcome);
  outcome.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return outcome;
}

}  // namespace flatbed::tool
