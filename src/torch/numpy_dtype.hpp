// What a pickled numpy.dtype says: the dtype.str of its arrays, and as what they are stored (spec
// T6). A pure function over borrowed values, thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "flatbed/dtype.hpp"
#include "flatbed/value.hpp"

namespace flatbed::pth {

struct NumpyDtype {
  std::string typestr;       // "<f8"
  std::uint64_t nbytes = 0;  // of an item
  Dtype dtype = Dtype::u8;   // stored
  bool raw = false;          // stored as the bytes of its items: one more dimension, of nbytes
  bool pair = false;         // one more dimension of 2: real and imaginary part
  std::uint32_t unit = 1;    // in which items are reversed to change their byte order
  bool big_endian = false;
};

// The dtype that `arguments` of numpy.dtype and `state` describe. Nothing for what an array node
// cannot hold: objects, structures, subarrays, and what this version does not know.
//
//   arguments  ('f4', ...)    a letter and a size
//   state      (3, '<', subarray, names, fields, nbytes, alignment, flags)
//              (4, the same, (metadata, (unit, count, 1, 1)))    of dates and durations
[[nodiscard]] std::optional<NumpyDtype> read_numpy_dtype(Value arguments, Value state);

}  // namespace flatbed::pth
