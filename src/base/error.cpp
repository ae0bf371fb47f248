// The texts of the error codes, and raise(), the library's only throw.
#include "flatbed/error.hpp"

#include <array>
#include <cstdlib>

#include "base/str_cat.hpp"

namespace flatbed {

namespace {

struct Row {
  std::int32_t number;
  std::string_view name;
  std::string_view meaning;
};

constexpr std::array kRows{
#define FLATBED_X(number, name, text) Row{number, #name, text},
    FLATBED_ERROR_CODES(FLATBED_X)
#undef FLATBED_X
};

constexpr bool ascending() {
  for (std::size_t i = 1; i < kRows.size(); ++i) {
    if (kRows[i - 1].number >= kRows[i].number) return false;
  }
  return true;
}
static_assert(ascending(), "error codes are unique and in order");

constexpr Row find_row(ErrorCode code) noexcept {
  for (const Row& row : kRows) {
    if (row.number == static_cast<std::int32_t>(code)) return row;
  }
  return {0, "unknown", "not an error code of this version of flatbed"};
}

}  // namespace

std::string_view name(ErrorCode code) noexcept { return find_row(code).name; }
std::string_view meaning(ErrorCode code) noexcept { return find_row(code).meaning; }

Error with_context(std::string_view place, Error error) {
  error.message = str_cat(place, ": ", error.message);
  return error;
}

// With it the vtable and type information of Exception stand here: this file is compiled with RTTI
// always (src/CMakeLists.txt).
Exception::~Exception() = default;

void raise(const Error& error) {
#if defined(__cpp_exceptions)
  throw Exception(error);
#else
  static_cast<void>(error);
  std::abort();  // the caller asked for the value of a failed Result and cannot catch
#endif
}

}  // namespace flatbed
