// Interprets a pickled numpy.dtype: the dtype.str of its arrays, and how they are stored (spec T6).
// A pure function over borrowed values, thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "flatbed/dtype.hpp"
#include "flatbed/value.hpp"

namespace flatbed::pth {

struct NumpyDtype {
  std::string typestr;       // "<f8"
  std::uint64_t nbytes = 0;  // of one item
  Dtype dtype = Dtype::u8;   // the stored dtype
  bool raw = false;          // stored as the bytes of its items: one more dimension, of size nbytes
  bool pair = false;         // one more dimension of 2: real and imaginary part
  std::uint32_t unit = 1;  // size in bytes of the units that are reversed to change the byte order
  bool big_endian = false;
};

// The dtype that `arguments` of numpy.dtype and `state` describe. nullopt for anything that an
// array node cannot hold: objects, structures, subarrays, and dtypes unknown to this version.
//   arguments  ('f4', ...)    a letter and a size
//   state      (3, '<', subarray, names, fields, nbytes, alignment, flags)
//              (4, the same, (metadata, (unit, count, 1, 1)))    for dates and durations
[[nodiscard]] std::optional<NumpyDtype> read_numpy_dtype(Value arguments, Value state);

}  // namespace flatbed::pth
