// Comparing, in flatbed.h.
#include "flatbed/diff.hpp"

#include "c/callbacks.hpp"
#include "c/checkpoints.hpp"
#include "c/guard.hpp"

namespace flatbed::c {

namespace {

static_assert(static_cast<int>(TensorChange::removed) == FLATBED_CHANGE_REMOVED &&
              static_cast<int>(TensorChange::added) == FLATBED_CHANGE_ADDED &&
              static_cast<int>(TensorChange::dtype) == FLATBED_CHANGE_DTYPE &&
              static_cast<int>(TensorChange::shape) == FLATBED_CHANGE_SHAPE &&
              static_cast<int>(TensorChange::bytes) == FLATBED_CHANGE_BYTES);

flatbed_tensor_difference difference_to_c(const TensorDifference& from) {
  flatbed_tensor_difference difference{};
  difference.struct_size = sizeof difference;
  difference.name = to_c(from.name);
  difference.a = from.a ? from.a->index : 0;
  difference.b = from.b ? from.b->index : 0;
  difference.chunks = from.chunks;
  difference.first_chunk = from.first_chunk;
  difference.change = static_cast<std::uint32_t>(from.change);
  if (!from.values) return difference;
  difference.has_values = 1;
  difference.max_abs = from.values->max_abs;
  difference.max_rel = from.values->max_rel;
  difference.mean_abs = from.values->mean_abs;
  difference.different = from.values->different;
  difference.nans_a = from.values->nans_a;
  difference.nans_b = from.values->nans_b;
  return difference;
}

Result<void> tell(const DiffReport& found, const flatbed_diff_options& options) {
  if (options.tensor != nullptr) {
    for (const TensorDifference& entry : found.tensors) {
      const flatbed_tensor_difference difference = difference_to_c(entry);
      FLATBED_TRY(callback_result(options.tensor(options.context, &difference),
                                  "the caller's tensor", ErrorCode::cancelled));
    }
  }
  if (options.tree == nullptr) return {};
  for (const TreeDifference& entry : found.tree) {
    const std::int32_t code = options.tree(options.context, to_c(std::string_view(entry.path)),
                                           entry.a ? 1 : 0, entry.b ? 1 : 0);
    FLATBED_TRY(callback_result(code, "the caller's tree", ErrorCode::cancelled));
  }
  return {};
}

Result<DiffOptions> to_cpp(const flatbed_diff_options& read) {
  DiffOptions options;
  FLATBED_ASSIGN(options.values, read_flag(read.values, "values"));
  if (read.threads != 0) options.threads = read.threads;
  options.progress = progress_callback(read.progress, read.context);
  FLATBED_ASSIGN(options.cancel, read_cancel(read.cancel));
  return options;
}

flatbed_diff_report report_to_c(const DiffReport& found) {
  flatbed_diff_report report{};
  report.equal_tensors = found.equal_tensors;
  report.tensor_differences = found.tensors.size();
  report.tree_differences = found.tree.size();
  report.bytes_read = found.bytes_read;
  report.same = found.same() ? 1 : 0;
  report.trees_compared = found.trees_compared ? 1 : 0;
  report.tree_complete = found.tree_complete ? 1 : 0;
  return report;
}

}  // namespace

}  // namespace flatbed::c

using flatbed::Result;

int32_t flatbed_diff(const flatbed_checkpoint* a, const flatbed_checkpoint* b,
                     const flatbed_diff_options* options, flatbed_diff_report* report,
                     flatbed_error* error) {
  return flatbed::c::guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(flatbed::c::check(a, "a"));
    FLATBED_TRY(flatbed::c::check(b, "b"));
    if (report != nullptr) FLATBED_TRY(flatbed::c::check_report(report, "report"));
    FLATBED_ASSIGN(const flatbed_diff_options read, flatbed::c::read_options(options));
    FLATBED_ASSIGN(const flatbed::DiffOptions diff_options, flatbed::c::to_cpp(read));
    FLATBED_ASSIGN(const flatbed::DiffReport found,
                   flatbed::diff(a->checkpoint, b->checkpoint, diff_options));
    if (report != nullptr) flatbed::c::fill_report(flatbed::c::report_to_c(found), report);
    return flatbed::c::tell(found, read);
  });
}
