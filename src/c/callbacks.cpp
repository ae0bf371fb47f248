#include "c/callbacks.hpp"

#include <cstring>

#include "base/str_cat.hpp"
#include "c/arguments.hpp"
#include "c/handles.hpp"

namespace flatbed::c {

namespace {

bool is_known(std::int32_t code) noexcept {
  return code != 0 && name(static_cast<ErrorCode>(code)) != "unknown";
}

}  // namespace

Result<void> callback_result(std::int32_t code, std::string_view what, ErrorCode otherwise,
                             const flatbed_error* said) {
  if (code == 0) return {};
  const ErrorCode meant = is_known(code) ? static_cast<ErrorCode>(code) : otherwise;
  if (said != nullptr && said->message[0] != '\0') {
    return Error{meant, std::string(said->message, strnlen(said->message, sizeof said->message))};
  }
  return make_error(meant, what, " returned ", code, " (", name(meant), ")");
}

ProgressCallback progress_callback(ProgressFunction function, void* context) {
  if (function == nullptr) return {};
  return [function, context](const Progress& progress) {
    return callback_result(function(context, progress.bytes_done, progress.bytes_total),
                           "the caller's progress", ErrorCode::cancelled);
  };
}

Result<const std::atomic<bool>*> read_cancel(const flatbed_cancel* cancel) {
  if (cancel == nullptr) return nullptr;
  FLATBED_TRY(check(cancel, "cancel"));
  return &cancel->requested;
}

}  // namespace flatbed::c
