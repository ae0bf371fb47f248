#include "io/read_text.hpp"

#include <cstddef>
#include <cstring>
#include <span>

#include "base/str_cat.hpp"

namespace flatbed {

namespace {

Result<std::size_t> check_size(const ByteSource& file, const TextLimit& limit) {
  if (file.size() <= limit.nbytes) return static_cast<std::size_t>(file.size());
  return make_error(limit.code, limit.what, " is too large: found ", counted(file.size(), "byte"),
                    ", the limit is ", limit.nbytes);
}

}  // namespace

Result<std::string> read_text(const ByteSource& file, const TextLimit& limit) {
  FLATBED_ASSIGN(const std::size_t nbytes, check_size(file, limit));
  std::string text(nbytes, '\0');
  FLATBED_TRY(file.read_at(0, std::as_writable_bytes(std::span(text))));
  return text;
}

Result<ByteBuffer> read_padded(const ByteSource& file, const TextLimit& limit,
                               std::size_t padding) {
  FLATBED_ASSIGN(const std::size_t nbytes, check_size(file, limit));
  ByteBuffer text(nbytes + padding);
  FLATBED_TRY(file.read_at(0, std::span(text).first(nbytes)));
  std::memset(text.data() + nbytes, 0, padding);
  return text;
}

}  // namespace flatbed
