#include "convert_remote.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "convert_output.hpp"
#include "convert_set.hpp"
#include "flatbed/diff.hpp"
#include "flatbed/save_compare.hpp"
#include "flatbed/save_set.hpp"
#include "format_text.hpp"
#include "interrupt.hpp"
#include "open_input.hpp"
#include "remote_session.hpp"

namespace flatbed::tool {
namespace {

// Null: there is none.
Result<std::shared_ptr<const ByteSource>> open_object(const ConvertJob& job,
                                                      const ConvertOptions& options) {
  Result<std::shared_ptr<const ByteSource>> found =
      session_of(options.remote)->open_source(job.output);
  // Who may not list the bucket is told so of what is not there, too: the sink decides.
  const bool may_be_absent = !found && (found.error().code == ErrorCode::file_not_found ||
                                        found.error().code == ErrorCode::permission_denied);
  if (may_be_absent) return std::shared_ptr<const ByteSource>();
  return found;
}

Result<OutputState> compare_object(const ConvertJob& job, const SavePlan& plan,
                                   const SaveOptions& saving, const ConvertOptions& options) {
  FLATBED_ASSIGN(std::shared_ptr<const ByteSource> found, open_object(job, options));
  if (!found) return OutputState{};
  return compare_output(std::move(found), plan, saving, compare_data(options));
}

OutputState difference(std::string text) { return {OutputKind::different, std::move(text), 0, {}}; }

bool is_absent(ErrorCode code) {
  return code == ErrorCode::file_not_found || code == ErrorCode::index_ambiguous;
}

// A set is up to date if its files have the planned names and its tensors and structure are equal;
// of sealed tensors the digests are compared.
Result<OutputState> compare_set(const ConvertJob& job, const Planned& planned,
                                const std::vector<PlannedShard>& shards,
                                const ConvertOptions& options) {
  const std::filesystem::path folder = job.output / "";
  const Result<Checkpoint> found = session_of(options.remote)->open(folder, {});
  // Whether there is something else, the sink will say.
  if (!found && is_absent(found.error().code)) return OutputState{};
  if (!found) return difference("cannot be compared: " + found.error().message);
  const auto is_named = [](const FileInfo& file, const PlannedShard& shard) {
    return file.path.native().ends_with("/" + shard.file_name);
  };
  if (!std::ranges::equal(found->files(), shards, is_named)) {
    return difference(fmt::format("found {} of other names, expected {}",
                                  count_text(found->files().size(), "file"),
                                  count_text(shards.size(), "shard")));
  }
  if ((found->seal() == SealState::sealed) != options.seal)
    return difference(options.seal ? "it is not sealed" : "it is sealed");
  FLATBED_ASSIGN(const DiffReport report,
                 diff(planned.checkpoint, *found, {.cancel = &interrupted()}));
  if (!report.same()) return difference("tensors or structure differ");
  OutputState state{OutputKind::up_to_date, {}, 0, {}};
  for (const FileInfo& file : found->files()) state.nbytes += file.nbytes;
  return state;
}

}  // namespace

Result<void> write_object(const ConvertJob& job, const SavePlan& plan,
                          const ConvertOptions& options, const ConvertWatch& watch,
                          Outcome& outcome) {
  const SaveOptions saving = save_options(job, options, watch);
  const auto found = compare_object(job, plan, saving, options);
  FLATBED_ASSIGN(const bool done, judge_output(job, options, found, outcome));
  if (done) return {};
  note_unsealed(plan, options, outcome);
  watch.announce(outcome);
  FLATBED_ASSIGN(const std::unique_ptr<ByteSink> sink,
                 session_of(options.remote)->create(job.output, saving.replace));
  FLATBED_ASSIGN(outcome.report, save(*sink, plan, saving));
  outcome.status = options.dry_run ? Status::planned : Status::converted;
  return {};
}

Result<OutputState> compare_torch_object(const ConvertJob& job, const SavePlan& plan,
                                         const SaveTorchOptions& saving,
                                         const ConvertOptions& options) {
  FLATBED_ASSIGN(std::shared_ptr<const ByteSource> found, open_object(job, options));
  if (!found) return OutputState{};
  return compare_torch_output(std::move(found), plan, saving, compare_data(options));
}

Result<SaveTorchReport> save_torch_object(const ConvertJob& job, const SavePlan& plan,
                                          const SaveTorchOptions& saving,
                                          const ConvertOptions& options) {
  FLATBED_ASSIGN(const std::unique_ptr<ByteSink> sink,
                 session_of(options.remote)->create(job.output, saving.file.replace));
  return save_torch(*sink, plan, saving);
}

Result<void> write_remote_set(const ConvertJob& job, const Planned& planned,
                              const ConvertOptions& options, const ConvertWatch& watch,
                              Outcome& outcome) {
  const SaveSetOptions saving = save_set_options(job, options, watch);
  FLATBED_ASSIGN(const std::vector<PlannedShard> shards,
                 plan_shards(planned.plan, saving.max_shard_nbytes));
  const auto found = compare_set(job, planned, shards, options);
  FLATBED_ASSIGN(const bool done, judge_output(job, options, found, outcome));
  list_shards(job, shards, outcome);
  if (done) return {};
  note_unsealed(planned.plan, options, outcome);
  watch.announce(outcome);
  FLATBED_ASSIGN(const std::unique_ptr<SinkFolder> folder,
                 session_of(options.remote)->create_folder(job.output / "", saving.replace));
  FLATBED_ASSIGN(SaveSetReport report, save_set(*folder, planned.plan, saving));
  note_saved(std::move(report), options, outcome);
  return {};
}

}  // namespace flatbed::tool
