#include "io/read_text.hpp"

#include <cstddef>
#include <span>

#include "base/str_cat.hpp"

namespace flatbed {

Result<std::string> read_text(const ByteSource& file, const TextLimit& limit) {
  if (file.size() > limit.nbytes) {
    return make_error(limit.code, limit.what, " is too large: found ", counted(file.size(), "byte"),
                      ", the limit is ", limit.nbytes);
  }
  std::string text(static_cast<std::size_t>(file.size()), '\0');
  FLATBED_TRY(file.read_at(0, std::as_writable_bytes(std::span(text))));
  return text;
}

}  // namespace flatbed
