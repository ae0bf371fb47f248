#include "convert_one.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>

#include "convert_output.hpp"
#include "convert_remote.hpp"
#include "convert_set.hpp"
#include "crc_text.hpp"
#include "describe.hpp"
#include "flatbed/checkpoint.hpp"
#include "flatbed/save_compare.hpp"
#include "flatbed/save_plan.hpp"
#include "flatbed/save_torch.hpp"
#include "format_text.hpp"
#include "open_input.hpp"
#include "renames.hpp"
#include "seal_text.hpp"
#include "totals.hpp"
#include "url_text.hpp"

namespace flatbed::tool {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kLargeHeader = std::uint64_t{5} << 20;  // spec L1: writers warn

std::uint64_t tensor_nbytes(const Checkpoint& checkpoint) {
  std::uint64_t sum = 0;
  for (const TensorInfo& tensor : checkpoint.tensors()) add_up(sum, tensor.nbytes);
  return sum;
}

std::string amount_text(const Checkpoint& checkpoint) {
  return fmt::format("{}, {}", count_text(checkpoint.tensors().size(), "tensor"),
                     size_text(tensor_nbytes(checkpoint)));
}

bool selects(const ConvertOptions& options) {
  return !options.select.empty() || !options.include.empty() || !options.exclude.empty();
}

Result<void> check_not_input_url(const ConvertJob& job, const Checkpoint& input, Outcome& outcome) {
  const auto same = [&](const FileInfo& file) { return file.path == job.output; };
  if (job.input != job.output && std::ranges::none_of(input.files(), same)) return {};
  outcome.refused = true;
  return Error{ErrorCode::invalid_argument,
               fmt::format("{} is an input: refusing to overwrite it", path_text(job.output))};
}

// The output must not be one of the files that are read, under whatever name, nor their folder.
Result<void> check_not_input(const ConvertJob& job, const Checkpoint& input, Outcome& outcome) {
  if (is_url(job.output.native())) return check_not_input_url(job, input, outcome);
  const bool is_set = job.max_shard_nbytes != 0;
  Result<void> other =
      flatbed::check_not_input(input, job.output, is_set ? WrittenAs::folder : WrittenAs::file);
  outcome.refused = !other;
  return other;
}

// Applies --select and the globs. A whole model becomes its state dict unless --whole is given.
Result<Checkpoint> choose_part(const Checkpoint& input, const ConvertOptions& options,
                               bool whole_model, Outcome& outcome) {
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

// The part that is chosen, with the names that --rename and the like give.
Result<Checkpoint> choose(const Checkpoint& input, const ConvertOptions& options, bool whole_model,
                          Outcome& outcome) {
  FLATBED_ASSIGN(const Checkpoint chosen, choose_part(input, options, whole_model, outcome));
  if (options.renames.empty()) return chosen;
  const std::string what =
      outcome.chosen.empty() ? "all tensors: " + amount_text(chosen) : outcome.chosen;
  outcome.chosen =
      fmt::format("{}; renamed{}", what, chosen.has_tree() ? ", as a flat state dict" : "");
  return renamed(chosen, options.renames);
}

Result<void> write_torch(const ConvertJob& job, const SavePlan& plan, const ConvertOptions& options,
                         const ConvertWatch& watch, Outcome& outcome) {
  SaveTorchOptions torch;
  torch.file = save_options(job, options, watch);
  torch.keep_device = options.keep_device;
  torch.unsafe_objects = options.unsafe_objects     ? UnsafeObjects::keep
                         : options.allow_conversion ? UnsafeObjects::convert
                                                    : UnsafeObjects::refuse;
  const bool is_object = is_url(job.output.native());
  const auto found = is_object
                         ? compare_torch_object(job, plan, torch, options)
                         : compare_torch_output(job.output, plan, torch, compare_data(options));
  FLATBED_ASSIGN(const bool done, judge_output(job, options, found, outcome));
  if (done) return {};
  watch.announce(outcome);
  FLATBED_ASSIGN(SaveTorchReport report, is_object ? save_torch_object(job, plan, torch, options)
                                                   : save_torch(job.output, plan, torch));
  outcome.report = std::move(report.file);
  outcome.tensors = static_cast<std::size_t>(report.tensors);
  outcome.nbytes = report.tensor_nbytes;
  outcome.notes.insert(outcome.notes.end(), report.notes.begin(), report.notes.end());
  outcome.status = options.dry_run ? Status::planned : Status::converted;
  return {};
}

// Without a seal of its own, the output counts as what a sidecar at its place says it is.
Result<void> check_no_other_sidecar(const ConvertJob& job, const ConvertOptions& options,
                                    Outcome& outcome) {
  if (options.seal) return {};
  const fs::path sidecar = fs::path(job.output) += ".flatbed.json";
  std::error_code ignored;
  if (fs::symlink_status(sidecar, ignored).type() == fs::file_type::not_found) return {};
  if (outcome.status == Status::up_to_date) {
    FLATBED_ASSIGN(const OutputState found,
                   compare_sidecar(job.output, {.threads = 1}, compare_data(options)));
    if (found.kind == OutputKind::up_to_date) return {};
  }
  outcome.refused = true;
  return Error{ErrorCode::file_exists,
               fmt::format("{} exists and seals another file of this name; remove it, or write the "
                           "output with a seal",
                           path_text(sidecar))};
}

Result<void> write_safetensors(const ConvertJob& job, const SavePlan& plan,
                               const ConvertOptions& options, const ConvertWatch& watch,
                               Outcome& outcome) {
  const SaveOptions saving = save_options(job, options, watch);
  const auto found = compare_output(job.output, plan, saving, compare_data(options));
  FLATBED_ASSIGN(const bool done, judge_output(job, options, found, outcome));
  FLATBED_TRY(check_no_other_sidecar(job, options, outcome));
  if (done) return {};
  note_unsealed(plan, options, outcome);
  watch.announce(outcome);
  FLATBED_ASSIGN(outcome.report, save(target_of(job, options), plan, saving));
  outcome.status = options.dry_run ? Status::planned : Status::converted;
  return {};
}

Result<void> convert_data(const ConvertJob& job, const Checkpoint& input,
                          const ConvertOptions& options, const ConvertWatch& watch,
                          Outcome& outcome) {
  std::vector<Pick> picks = find_picks(input);
  const bool whole_model = !picks.empty() && picks[0].path.empty();
  FLATBED_ASSIGN(const Checkpoint selected, choose(input, options, whole_model, outcome));
  FLATBED_ASSIGN(const Checkpoint chosen, cast_chosen(selected, options.cast));
  outcome.cast = count_cast(chosen);
  if (outcome.chosen.empty() && !whole_model) outcome.weights = std::move(picks);
  outcome.tensors = chosen.tensors().size();
  outcome.nbytes = tensor_nbytes(chosen);
  FLATBED_ASSIGN(const SavePlan plan,
                 make_plan(chosen, {.expand_aliases = options.expand_aliases,
                                    .allow_expansion = options.allow_expansion}));
  if (job.torch) return write_torch(job, plan, options, watch, outcome);
  if (is_url(job.output.native())) {
    return job.max_shard_nbytes == 0
               ? write_object(job, plan, options, watch, outcome)
               : write_remote_set(job, {chosen, plan}, options, watch, outcome);
  }
  return job.max_shard_nbytes == 0 ? write_safetensors(job, plan, options, watch, outcome)
                                   : write_set(job, plan, options, watch, outcome);
}

Result<void> seal_beside(const ConvertJob& job, const ConvertOptions& options,
                         const ConvertWatch& watch, Outcome& outcome) {
  const SaveOptions saving = save_options(job, options, watch);
  const auto found = compare_sidecar(job.input, saving, compare_data(options));
  FLATBED_ASSIGN(const bool done, judge_output(job, options, found, outcome));
  if (done) return {};
  if (found->kind == OutputKind::different) {
    outcome.notes.push_back(fmt::format(
        "its sidecar did not match ({}); the new one seals the file as it is", found->difference));
  }
  watch.announce(outcome);
  FLATBED_ASSIGN(outcome.report, save_sidecar(job.input, saving));
  outcome.status = options.dry_run ? Status::planned : Status::converted;
  return {};
}

// What --ignore-seal leaves unchecked.
void note_ignored_seal(const Checkpoint& input, Outcome& outcome) {
  std::size_t sealed = 0;
  std::string_view cause;
  for (const FileInfo& file : input.files()) {
    if (file.seal == SealState::unsealed) continue;
    ++sealed;
    if (cause.empty()) cause = file.seal_note;
  }
  if (sealed == 0) return;
  outcome.notes.push_back(fmt::format("--ignore-seal: no byte was compared with the seal of {}{}{}",
                                      sealed == 1 ? "the input" : fmt::format("{} files", sealed),
                                      cause.empty() ? "" : ": ", cause));
  const auto holds = [&](std::string_view key) {
    return std::ranges::any_of(input.metadata(),
                               [&](const auto& pair) { return pair.first == key; });
  };
  if (!input.has_tree() && holds("flatbed.tree")) {
    outcome.notes.push_back(
        "--ignore-seal: the nested structure is left out, because only an intact seal vouches for "
        "it");
  }
}

void note_report(const ConvertOptions& options, Outcome& outcome) {
  outcome.warnings = crc_warnings(outcome.report.crc);
  for (std::string& warning : cast_warnings(outcome.report.casts))
    outcome.warnings.push_back(std::move(warning));
  for (std::string& note : crc_notes(outcome.report.crc)) outcome.notes.push_back(std::move(note));
  if (const std::uint64_t reread = outcome.report.chunks_reread; reread != 0)
    outcome.notes.push_back(
        fmt::format("read again after damage on the way: {}", count_text(reread, "chunk")));
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

Result<void> convert(const ConvertJob& job, const ConvertOptions& options,
                     const ConvertWatch& watch, Outcome& outcome) {
  // The sidecar replaces any seal of the file, so a broken seal is no obstacle.
  FLATBED_ASSIGN(
      const Checkpoint input,
      open_input(job.input, open_options(options.sidecar || options.ignore_seal), options.remote));
  FLATBED_TRY(check_not_input(job, input, outcome));
  outcome.found = fmt::format("{}: {}", describe(input), amount_text(input));
  outcome.notes.assign(input.notes().begin(), input.notes().end());
  if (options.ignore_seal && !options.sidecar) note_ignored_seal(input, outcome);
  outcome.tensors = input.tensors().size();
  outcome.nbytes = tensor_nbytes(input);
  return options.sidecar ? seal_beside(job, options, watch, outcome)
                         : convert_data(job, input, options, watch, outcome);
}

}  // namespace

std::string_view name(Status status) {
  constexpr std::array<std::string_view, 5> kNames{"not_started", "converted", "planned",
                                                   "up_to_date", "failed"};
  return kNames[static_cast<std::size_t>(status)];
}

Outcome convert_one(const ConvertJob& job, const ConvertOptions& options,
                    const ConvertWatch& watch) {
  const auto start = std::chrono::steady_clock::now();
  Outcome outcome;
  if (Result<void> done = convert(job, options, watch, outcome); !done) {
    outcome.status = Status::failed;
    outcome.error = about(job.input, with_way_out(std::move(done).error()));
    // Also a file that another program put there meanwhile.
    outcome.refused |= outcome.error->code == ErrorCode::file_exists;
    if (outcome.error->code == ErrorCode::cancelled) outcome.error->message += "; nothing written";
    if (outcome.error->code == ErrorCode::expansion_refused) {
      outcome.error->message += "; use --allow-expansion to allow it";
    }
    if (outcome.error->code == ErrorCode::zip_crc_mismatch) {
      outcome.error->message += options.strict_crc
                                    ? "; without --strict-crc, a missing CRC is only a note"
                                    : "; use --ignore-crc to convert it anyway";
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
