#include "io/system_error.hpp"

#include <cerrno>
#include <cstring>

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
  const char* text = strerror_r(error_number, buffer, sizeof buffer);
  return make_error(code_of(error_number), place, ": ", text);
}

Error read_error(int error_number, std::string_view place) {
  if (error_number != EFAULT) return system_error(error_number, place);
  return make_error(ErrorCode::destination_invalid, place,
                    ": cannot write to the destination memory");
}

}  // namespace flatbed
