// NumpyObjects: numpy's arrays and scalars in a torch pickle, recognized by the calls that make
// them. What an array or scalar node cannot hold (objects, structures, subclasses) stays a call.
//
// Arrays become tensors of the TorchFile whose contents are held, in C order and little endian.
// Borrows the TorchFile that it fills, the globals and the source. Not thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "flatbed/result.hpp"
#include "flatbed/value.hpp"
#include "torch/numpy_dtype.hpp"
#include "torch/torch_file.hpp"
#include "torch/torch_globals.hpp"
#include "torch/torch_tensors.hpp"

namespace flatbed::pth {

// Limit on repeated copies of the same bytes. Picklers give every array its own bytes.
inline constexpr std::uint64_t kMaxRepeatedCopies = 64ULL << 20;

class NumpyObjects {
 public:
  // `source` is the pickle that is running at the time of each call.
  NumpyObjects(TorchFile& file, const TorchGlobals& globals, const PickleSource& source)
      : file_(file), tree_(file.tree), globals_(globals), source_(source) {}

  // Handles scalar(dtype, bytes) and _frombuffer(bytes, dtype, shape, order). nullopt means that it
  // stays a call. Errors: rebuild_malformed, size_overflow, pickle_limit.
  [[nodiscard]] Result<std::optional<NodeId>> call(Meaning function, Value arguments);

  // Handles the state (1, shape, dtype, is_fortran, bytes) of an array made by _reconstruct:
  // `target` becomes an array. Returns false if it is something else. Errors: as above.
  [[nodiscard]] Result<bool> build(Value target, Value state);

 private:
  struct Array {
    Value shape;
    NumpyDtype type;
    bool fortran;
    Value data;
    bool swap = false;
  };

  [[nodiscard]] std::optional<NumpyDtype> dtype_of(Value dtype) const;
  [[nodiscard]] Value bytes_in(Value buffer) const;
  [[nodiscard]] bool is_data(Value data) const;
  [[nodiscard]] std::string_view contents(Value data) const;
  [[nodiscard]] Result<NodeId> scalar(NumpyDtype type, Value data);
  [[nodiscard]] Result<NodeId> array(const Array& array);
  [[nodiscard]] Result<std::string> copy(Value data, std::uint64_t nbytes);

  TorchFile& file_;
  ValueTree& tree_;
  const TorchGlobals& globals_;
  const PickleSource& source_;
  std::vector<bool> copied_;  // for each node: whether its bytes were copied
  std::uint64_t repeated_nbytes_ = 0;
};

}  // namespace flatbed::pth
