// Comparing what a path holds with what a save would write there, in flatbed.h.
#include "c/guard.hpp"
#include "c/handles.hpp"
#include "c/saving.hpp"
#include "flatbed/check_plan.hpp"
#include "flatbed/save_compare.hpp"

namespace flatbed::c {

namespace {

static_assert(static_cast<int>(OutputKind::absent) == FLATBED_OUTPUT_ABSENT &&
              static_cast<int>(OutputKind::up_to_date) == FLATBED_OUTPUT_UP_TO_DATE &&
              static_cast<int>(OutputKind::different) == FLATBED_OUTPUT_DIFFERENT);

// A caller's options, and the struct in them, if there is one.
struct Compared {
  flatbed_save_options save{};
  std::uint32_t format = FLATBED_FORMAT_SAFETENSORS;
  CompareData data = CompareData::sampled;
};

Result<Compared> read_compared(const flatbed_compare_options* given) {
  FLATBED_ASSIGN(const flatbed_compare_options read, read_options(given));
  Compared compared;
  FLATBED_ASSIGN(compared.save, read_options(read.save));
  FLATBED_TRY(check_number(read.format, 3, "format"));
  compared.format = read.format;
  FLATBED_ASSIGN(const bool all_data, read_flag(read.all_data, "all_data"));
  if (all_data) compared.data = CompareData::all;
  return compared;
}

Result<OutputState> compare_with(const std::filesystem::path& path, const SavePlan& plan,
                                 const Compared& how) {
  if (how.format == FLATBED_FORMAT_TORCH) {
    FLATBED_ASSIGN(const SaveTorchOptions options, torch_options(how.save));
    return compare_torch_output(path, plan, options, how.data);
  }
  if (how.format == FLATBED_FORMAT_SET) {
    FLATBED_ASSIGN(const SaveSetOptions options, set_options(how.save));
    return compare_set_output(path, plan, options, how.data);
  }
  FLATBED_ASSIGN(const SaveOptions options, file_options(how.save));
  return compare_output(path, plan, options, how.data);
}

void fill_state(const OutputState& from, flatbed_output_state* out) {
  flatbed_output_state state{};
  state.nbytes = from.nbytes;
  from.content.copy(state.content, sizeof state.content - 1);
  state.kind = static_cast<std::uint32_t>(from.kind);
  const std::string_view text = cut_text(from.difference, sizeof state.difference - 1);
  text.copy(state.difference, text.size());
  state.difference_size = static_cast<std::uint32_t>(text.size());
  fill_report(state, out);
}

}  // namespace

}  // namespace flatbed::c

using flatbed::OutputState;
using flatbed::Result;
using flatbed::c::check_report;
using flatbed::c::Compared;
using flatbed::c::guarded;
using flatbed::c::read_compared;
using flatbed::c::read_path;

int32_t flatbed_compare_output(const char* path, const flatbed_save_plan* plan,
                               const flatbed_compare_options* options, flatbed_output_state* out,
                               flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_ASSIGN(const std::filesystem::path target, read_path(path, "path"));
    FLATBED_TRY(flatbed::c::check(plan, "plan"));
    FLATBED_TRY(check_report(out, "out"));
    FLATBED_ASSIGN(const Compared how, read_compared(options));
    if (plan->own_tree) FLATBED_TRY(flatbed::check_plan_tree(plan->plan));
    FLATBED_ASSIGN(const OutputState state, flatbed::c::compare_with(target, plan->plan, how));
    flatbed::c::fill_state(state, out);
    return {};
  });
}

int32_t flatbed_compare_sidecar(const char* path, const flatbed_compare_options* options,
                                flatbed_output_state* out, flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_ASSIGN(const std::filesystem::path target, read_path(path, "path"));
    FLATBED_TRY(check_report(out, "out"));
    FLATBED_ASSIGN(const Compared how, read_compared(options));
    FLATBED_ASSIGN(const flatbed::SaveOptions file, flatbed::c::file_options(how.save));
    FLATBED_ASSIGN(const OutputState state, flatbed::compare_sidecar(target, file, how.data));
    flatbed::c::fill_state(state, out);
    return {};
  });
}
