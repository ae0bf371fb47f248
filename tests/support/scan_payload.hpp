// What the tests of scans hide: a pickle that runs a command. And gzip, in which it is hidden.
#pragma once

#include <zlib.h>

#include <string>
#include <string_view>

#include "support/pickle_asm.hpp"

namespace flatbed::test {

inline std::string payload() {
  return pickle::finish(
      pickle::call(pickle::global("os", "system"), pickle::tuple({pickle::text("id")})));
}

// A zlib stream, or with `window_bits` 31 a gzip file.
inline std::string packed(std::string_view data, int window_bits = 31) {
  z_stream stream{};
  deflateInit2(&stream, 9, Z_DEFLATED, window_bits, 9, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&stream, data.size()) + 32, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(data.data()));
  stream.avail_in = static_cast<uInt>(data.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

}  // namespace flatbed::test
