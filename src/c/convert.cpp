// Converting in one call, in flatbed.h: open, select, rename, cast, save.
#include "c/checkpoints.hpp"
#include "c/guard.hpp"
#include "c/saving.hpp"
#include "c/view_options.hpp"
#include "flatbed/key_map.hpp"

namespace flatbed::c {

namespace {

Result<Checkpoint> view_of(Checkpoint checkpoint, const flatbed_convert_options& options) {
  if (options.selection != nullptr) {
    FLATBED_ASSIGN(const Selection selection, to_cpp(options.selection));
    FLATBED_ASSIGN(checkpoint, checkpoint.select(selection));
  }
  FLATBED_ASSIGN(const std::string_view rules, read_string(options.rename_rules, "rename_rules"));
  if (!rules.empty()) {
    FLATBED_ASSIGN(const KeyMap map, KeyMap::parse(rules, "rules"));
    FLATBED_ASSIGN(checkpoint, checkpoint.rename(map));
  }
  if (options.cast != nullptr) {
    FLATBED_ASSIGN(const CastRules cast, to_cpp(options.cast));
    FLATBED_ASSIGN(checkpoint, checkpoint.cast(cast));
  }
  return checkpoint;
}

Result<void> convert(const char* from, const char* to, const flatbed_convert_options* given,
                     flatbed_save_report* report) {
  FLATBED_ASSIGN(const std::filesystem::path input, read_path(from, "from"));
  SaveTarget target;
  FLATBED_ASSIGN(target.path, read_path(to, "to"));
  if (report != nullptr) FLATBED_TRY(check_report(report, "report"));
  FLATBED_ASSIGN(const flatbed_convert_options options, read_options(given));
  FLATBED_TRY(check_number(options.format, 3, "format"));
  target.format = options.format;
  FLATBED_ASSIGN(target.replace_set, read_flag(options.replace_set, "replace_set"));
  FLATBED_ASSIGN(const OpenOptions open_options, to_cpp(options.open));
  FLATBED_ASSIGN(const SavePlanOptions plan_options_read, plan_options(options.plan));
  FLATBED_ASSIGN(Checkpoint opened, Checkpoint::open(input, open_options));
  const bool is_set = target.format == FLATBED_FORMAT_SET;
  FLATBED_TRY(check_not_input(opened, target.path, is_set ? WrittenAs::folder : WrittenAs::file));
  FLATBED_ASSIGN(const Checkpoint view, view_of(std::move(opened), options));
  FLATBED_ASSIGN(const SavePlan plan, make_plan(view, plan_options_read));
  return write_plan(target, plan, options.save, report);
}

}  // namespace

}  // namespace flatbed::c

int32_t flatbed_convert(const char* from, const char* to, const flatbed_convert_options* options,
                        flatbed_save_report* report, flatbed_error* error) {
  return flatbed::c::guarded(error,
                             [&]() { return flatbed::c::convert(from, to, options, report); });
}
