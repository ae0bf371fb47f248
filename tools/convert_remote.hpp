// flatbed convert -o s3://...: outputs that are objects. One that holds what would be written is up
// to date, as a file is; any other is refused without --force.
#pragma once

#include "commands.hpp"
#include "convert_jobs.hpp"
#include "convert_one.hpp"
#include "flatbed/result.hpp"
#include "flatbed/save_compare.hpp"
#include "flatbed/save_plan.hpp"
#include "flatbed/save_torch.hpp"

namespace flatbed::tool {

// Writes job.output, a URL of a file. Errors: those of save(), RemoteSession::create() and
// judge_output().
[[nodiscard]] Result<void> write_object(const ConvertJob& job, const SavePlan& plan,
                                        const ConvertOptions& options, const ConvertWatch& watch,
                                        Outcome& outcome);

// A PyTorch file at job.output, a URL: what is there, and writing it. Errors: those of
// save_torch(), compare_torch_output() and RemoteSession.
[[nodiscard]] Result<OutputState> compare_torch_object(const ConvertJob& job, const SavePlan& plan,
                                                       const SaveTorchOptions& saving,
                                                       const ConvertOptions& options);
[[nodiscard]] Result<SaveTorchReport> save_torch_object(const ConvertJob& job, const SavePlan& plan,
                                                        const SaveTorchOptions& saving,
                                                        const ConvertOptions& options);

// A checkpoint and its plan.
struct Planned {
  const Checkpoint& checkpoint;
  const SavePlan& plan;
};

// Writes job.output, a URL of a folder, as a sharded set. Errors: those of save_set() and as above.
[[nodiscard]] Result<void> write_remote_set(const ConvertJob& job, const Planned& planned,
                                            const ConvertOptions& options,
                                            const ConvertWatch& watch, Outcome& outcome);

}  // namespace flatbed::tool
