// Other views of a checkpoint, in flatbed.h: select, rename, cast.
#include "c/callbacks.hpp"
#include "c/checkpoints.hpp"
#include "c/guard.hpp"
#include "c/view_options.hpp"
#include "flatbed/cast.hpp"
#include "flatbed/key_map.hpp"

namespace flatbed::c {

namespace {

using RenameFunction = std::int32_t (*)(void* context, flatbed_string name,
                                        flatbed_string* new_name);

// What the caller's function makes of a name.
Result<std::string> new_name(RenameFunction rename, void* context, std::string_view name) {
  flatbed_string made = to_c(name);
  FLATBED_TRY(callback_result(rename(context, to_c(name), &made), "the caller's rename",
                              ErrorCode::cancelled));
  FLATBED_ASSIGN(const std::string_view text, read_string(made, "new_name"));
  return std::string(text);
}

}  // namespace

Result<Selection> to_cpp(const flatbed_selection* given) {
  FLATBED_ASSIGN(const flatbed_selection read, read_struct(given, "selection"));
  Selection selection;
  FLATBED_ASSIGN(selection.path, read_string(read.path, "selection.path"));
  FLATBED_ASSIGN(selection.include,
                 read_strings(read.include, read.include_count, "selection.include"));
  FLATBED_ASSIGN(selection.exclude,
                 read_strings(read.exclude, read.exclude_count, "selection.exclude"));
  FLATBED_ASSIGN(selection.state_dict, read_flag(read.state_dict, "selection.state_dict"));
  return selection;
}

Result<CastRules> to_cpp(const flatbed_cast_rules* given) {
  FLATBED_ASSIGN(const flatbed_cast_rules read, read_struct(given, "rules"));
  CastRules rules;
  FLATBED_ASSIGN(rules.to, read_dtype(read.to, "rules.to"));
  FLATBED_ASSIGN(rules.include, read_strings(read.include, read.include_count, "rules.include"));
  FLATBED_ASSIGN(rules.keep, read_strings(read.keep, read.keep_count, "rules.keep"));
  return rules;
}

}  // namespace flatbed::c

using flatbed::Checkpoint;
using flatbed::Result;
using flatbed::c::check;
using flatbed::c::clear_out;
using flatbed::c::guarded;

int32_t flatbed_select(const flatbed_checkpoint* checkpoint, const flatbed_selection* selection,
                       flatbed_checkpoint** out, flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(clear_out(out));
    FLATBED_TRY(check(checkpoint, "checkpoint"));
    FLATBED_ASSIGN(const flatbed::Selection wanted, flatbed::c::to_cpp(selection));
    FLATBED_ASSIGN(Checkpoint selected, checkpoint->checkpoint.select(wanted));
    return flatbed::c::give(std::move(selected), out);
  });
}

int32_t flatbed_rename(const flatbed_checkpoint* checkpoint, flatbed_string rules,
                       flatbed_checkpoint** out, flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(clear_out(out));
    FLATBED_TRY(check(checkpoint, "checkpoint"));
    FLATBED_ASSIGN(const std::string_view text, flatbed::c::read_string(rules, "rules"));
    FLATBED_ASSIGN(const flatbed::KeyMap map, flatbed::KeyMap::parse(text, "rules"));
    FLATBED_ASSIGN(Checkpoint renamed, checkpoint->checkpoint.rename(map));
    return flatbed::c::give(std::move(renamed), out);
  });
}

int32_t flatbed_rename_by(const flatbed_checkpoint* checkpoint,
                          int32_t (*rename)(void* context, flatbed_string name,
                                            flatbed_string* new_name),
                          void* context, flatbed_checkpoint** out, flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(clear_out(out));
    FLATBED_TRY(check(checkpoint, "checkpoint"));
    if (rename == nullptr) return flatbed::c::null_argument("rename");
    flatbed::KeyMap map;
    FLATBED_TRY(map.add_callback([rename, context](std::string_view name) {
      return flatbed::c::new_name(rename, context, name);
    }));
    FLATBED_ASSIGN(Checkpoint renamed, checkpoint->checkpoint.rename(map));
    return flatbed::c::give(std::move(renamed), out);
  });
}

int32_t flatbed_cast(const flatbed_checkpoint* checkpoint, const flatbed_cast_rules* rules,
                     flatbed_checkpoint** out, flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(clear_out(out));
    FLATBED_TRY(check(checkpoint, "checkpoint"));
    FLATBED_ASSIGN(const flatbed::CastRules wanted, flatbed::c::to_cpp(rules));
    FLATBED_ASSIGN(Checkpoint cast, checkpoint->checkpoint.cast(wanted));
    return flatbed::c::give(std::move(cast), out);
  });
}
