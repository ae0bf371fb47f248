#include "io/system_error.hpp"

#include <cerrno>
#include <cstring>
#include <string>

#include "base/str_cat.hpp"

namespace flatbed {

namespace {

ErrorCode code_of(int error_number) noexcept {
  switch (error_number) {
    case ENOENT:
    case ENOTDIR:
      return ErrorCode::file_not_found;
    case EACCES:
    case EPERM:
    case EROFS:
      return ErrorCode::permission_denied;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return ErrorCode::no_space;
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case EAGAIN:
      return ErrorCode::resource_exhausted;
    default:
      return ErrorCode::io_error;
  }
}

}  // namespace

Error system_error(int error_number, std::string_view place) {
  char buffer[256];
  std::string text = strerror_r(error_number, buffer, sizeof buffer);
  // The text follows a colon, so it begins in lower case; abbreviations stay as they are.
  const auto is = [&](std::size_t at, char first, char last) {
    return at < text.size() && text[at] >= first && text[at] <= last;
  };
  if (is(0, 'A', 'Z') && is(1, 'a', 'z')) text[0] = static_cast<char>(text[0] - 'A' + 'a');
  return make_error(code_of(error_number), place, ": ", text);
}

Error read_error(int error_number, std::string_view place) {
  if (error_number != EFAULT) return system_error(error_number, place);
  return make_error(ErrorCode::destination_invalid, place,
                    ": cannot write to the destination memory");
}

}  // namespace flatbed
