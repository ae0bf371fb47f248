#include "torch/numpy_objects.hpp"

#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>

#include "base/bytes.hpp"
#include "base/checked.hpp"
#include "base/str_cat.hpp"
#include "pickle/pickle_literal.hpp"

namespace flatbed::pth {

namespace {

template <typename... Parts>
Error malformed(const Parts&... parts) {
  return make_error(ErrorCode::rebuild_malformed, parts...);
}

Result<std::vector<std::uint64_t>> read_shape(Value shape) {
  if (shape.kind() != Kind::tuple) return malformed("the shape is not a tuple");
  if (shape.size() > kMaxRank)
    return malformed(shape.size(), " dimensions, numpy allows ", kMaxRank);
  std::vector<std::uint64_t> sizes;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    const std::optional<std::int64_t> size = shape.item(i).as_int();
    if (!size || *size < 0)
      return malformed("the shape holds something other than non-negative ints");
    sizes.push_back(static_cast<std::uint64_t>(*size));
  }
  return sizes;
}

// The size of all items together. A dimension of 0 must not hide an overflow.
Result<std::uint64_t> nbytes_of(std::span<const std::uint64_t> sizes, std::uint64_t item) {
  std::optional<std::uint64_t> nbytes = item;
  bool empty = false;
  for (const std::uint64_t size : sizes) {
    empty = empty || size == 0;
    nbytes = checked_mul(*nbytes, std::max<std::uint64_t>(size, 1));
    if (!nbytes || *nbytes > INT64_MAX)
      return make_error(ErrorCode::size_overflow, "an array ",
                        shape_text(sizes.data(), sizes.size()), " of items of ", item,
                        " bytes does not fit 64 bits");
  }
  return empty ? 0 : *nbytes;
}

// Copies items from Fortran order (first index fastest) to C order.
std::string to_c_order(std::string_view items, std::span<const std::uint64_t> sizes,
                       std::uint64_t item) {
  std::vector<std::uint64_t> steps;  // in bytes, in the source
  std::uint64_t step = item;
  for (const std::uint64_t size : sizes) {
    steps.push_back(step);
    step *= size;  // at the end: the size of all items
  }
  std::vector<std::uint64_t> index(sizes.size());
  std::string out;
  out.reserve(items.size());
  std::uint64_t from = 0;
  while (out.size() < items.size()) {
    out += items.substr(static_cast<std::size_t>(from), static_cast<std::size_t>(item));
    for (std::size_t i = sizes.size(); i-- > 0;) {
      from += steps[i];
      if (++index[i] < sizes[i]) break;
      from -= steps[i] * sizes[i];
      index[i] = 0;
    }
  }
  return out;
}

// Swaps bytes as numpy does when it reads an array or scalar of the other byte order. Returns
// whether there was anything to do.
bool to_native(NumpyDtype& type) {
  if (type.big_endian) type.typestr[0] = '<';
  return std::exchange(type.big_endian, false);
}

void reverse_units(std::string& items, std::size_t unit) {
  for (auto at = items.begin(); at != items.end(); at += static_cast<std::ptrdiff_t>(unit))
    std::reverse(at, at + static_cast<std::ptrdiff_t>(unit));
}

}  // namespace

Result<std::optional<NodeId>> NumpyObjects::call(Meaning function, Value arguments) {
  const bool is_scalar = function == Meaning::numpy_scalar;
  if (arguments.size() != (is_scalar ? 2U : 4U)) return std::optional<NodeId>();
  const std::optional<NumpyDtype> type = dtype_of(arguments.item(is_scalar ? 0 : 1));
  const Value data = is_scalar ? arguments.item(1) : bytes_in(arguments.item(0));
  if (!type || !is_data(data)) return std::optional<NodeId>();
  if (is_scalar) {
    if (data.tensor()) return std::optional<NodeId>();  // long bytes; they stay a tensor
    FLATBED_ASSIGN(const NodeId made, scalar(*type, data));
    return std::optional(made);
  }
  const std::string_view order = arguments.item(3).text();
  if (order != "C" && order != "F") return malformed("the order is neither 'C' nor 'F'");
  // These would keep their byte order, but tensors have no choice of one.
  const bool swap = type->big_endian && !type->raw;
  FLATBED_ASSIGN(const NodeId made, array({arguments.item(2), *type, order == "F", data, swap}));
  return std::optional(made);
}

Result<bool> NumpyObjects::build(Value target, Value state) {
  if (target.kind() != Kind::object ||
      globals_.find(target.callable().id()).meaning != Meaning::numpy_reconstruct)
    return false;
  const Value arguments = target.arguments();
  const bool plain = arguments.size() == 3 && !target.state() && target.size() == 0 &&
                     target.appended_size() == 0 &&
                     globals_.find(arguments.item(0).id()).meaning == Meaning::numpy_array_class;
  if (!plain || state.kind() != Kind::tuple || state.size() != 5 || state.item(0).as_int() != 1)
    return false;
  std::optional<NumpyDtype> type = dtype_of(state.item(2));
  const std::optional<bool> fortran = state.item(3).as_bool();
  if (!type || !fortran || !is_data(state.item(4))) return false;
  const bool swap = to_native(*type);
  Result<NodeId> made = array({state.item(1), *type, *fortran, state.item(4), swap});
  if (!made) return with_context("a numpy array", std::move(made).error());
  tree_.become(target.id(), *made);
  return true;
}

std::optional<NumpyDtype> NumpyObjects::dtype_of(Value dtype) const {
  if (dtype.kind() != Kind::object || !dtype.state() ||
      globals_.find(dtype.callable().id()).meaning != Meaning::numpy_dtype_class)
    return std::nullopt;
  return read_numpy_dtype(dtype.arguments(), *dtype.state());
}

// Returns the bytes of a bytearray, and any other value unchanged.
Value NumpyObjects::bytes_in(Value buffer) const {
  const bool is_array = buffer.kind() == Kind::object && !buffer.state() &&
                        globals_.find(buffer.callable().id()).meaning == Meaning::bytearray &&
                        buffer.arguments().size() == 1 && buffer.appended_size() == 0;
  return is_array ? buffer.arguments().item(0) : buffer;
}

// Whether a value is bytes, or a str that was bytes in Python 2, and not a storage.
bool NumpyObjects::is_data(Value data) const {
  if (data.kind() == Kind::string) return true;
  return data.kind() == Kind::bytes && (data.tensor().value_or(0) & kStorageFlag) == 0;
}

std::string_view NumpyObjects::contents(Value data) const {
  if (!data.tensor()) return data.text();
  const TorchTensor& tensor = file_.tensors[*data.tensor()];
  const bool in_file =
      tensor.storage != kNoStorage && file_.storages[tensor.storage].held == kNotHeld;
  if (!in_file) return as_text(held_bytes(file_, tensor));
  // The bytes are in the file, and so in this pickle: other pickles hand out no bytes objects.
  const TorchStorage& storage = file_.storages[tensor.storage];
  return as_text(source_.bytes)
      .substr(static_cast<std::size_t>(storage.stored_offset - source_.offset),
              static_cast<std::size_t>(tensor.nbytes));
}

Result<NodeId> NumpyObjects::scalar(NumpyDtype type, Value data) {
  FLATBED_ASSIGN(std::string bytes, copy(data, type.nbytes));
  if (to_native(type)) reverse_units(bytes, type.unit);
  return tree_.add_scalar(type.typestr, bytes);
}

Result<NodeId> NumpyObjects::array(const Array& array) {
  const NumpyDtype& type = array.type;
  FLATBED_ASSIGN(std::vector<std::uint64_t> sizes, read_shape(array.shape));
  FLATBED_ASSIGN(const std::uint64_t nbytes, nbytes_of(sizes, type.nbytes));
  const bool reorder = array.fortran && sizes.size() > 1 && nbytes != 0;

  TorchTensor tensor;
  if (array.data.tensor() && !reorder && !array.swap) {
    tensor = file_.tensors[*array.data.tensor()];
    if (tensor.nbytes != nbytes)
      return malformed("wrong size of the array's bytes: found ", tensor.nbytes, ", expected ",
                       nbytes);
  } else {
    FLATBED_ASSIGN(std::string bytes, copy(array.data, nbytes));
    if (reorder) bytes = to_c_order(bytes, sizes, type.nbytes);
    if (array.swap) reverse_units(bytes, type.unit);
    tensor.held = static_cast<std::uint32_t>(file_.held.size());
    file_.held.push_back(std::move(bytes));
  }
  if (type.raw) sizes.push_back(type.nbytes);
  if (type.pair) sizes.push_back(2);
  tensor.dtype = type.dtype;
  tensor.element_nbytes = static_cast<std::uint32_t>(bits(type.dtype) / 8);
  tensor.rank = tensor.stored_rank = static_cast<std::uint32_t>(sizes.size());
  tensor.dims = file_.dims.size();
  tensor.nbytes = nbytes;
  std::vector<std::uint64_t> strides(sizes.size(), 1);
  for (std::size_t i = sizes.size(); i-- > 1;) strides[i - 1] = strides[i] * sizes[i];
  file_.dims.insert(file_.dims.end(), sizes.begin(), sizes.end());
  file_.dims.insert(file_.dims.end(), strides.begin(), strides.end());
  file_.dims.insert(file_.dims.end(), sizes.begin(), sizes.end());
  file_.tensors.push_back(tensor);
  return tree_.add_array(static_cast<std::uint32_t>(file_.tensors.size() - 1), type.typestr);
}

// Copies exactly `nbytes` bytes. A str from Python 2 holds them as they are, one from Python 3 as
// Latin-1. The two forms have the same length only if they are equal.
Result<std::string> NumpyObjects::copy(Value data, std::uint64_t nbytes) {
  std::string bytes;
  std::string_view found = contents(data);
  if (found.size() != nbytes && data.kind() == Kind::string && to_latin1(found, bytes))
    found = bytes;
  if (found.size() != nbytes)
    return malformed("wrong number of bytes: found ", found.size(), ", expected ", nbytes);
  if (copied_.size() <= data.id()) copied_.resize(tree_.size());
  if (copied_[data.id()]) repeated_nbytes_ += nbytes;
  copied_[data.id()] = true;
  if (repeated_nbytes_ > kMaxRepeatedCopies)
    return make_error(ErrorCode::pickle_limit, "more than ", kMaxRepeatedCopies,
                      " bytes that several arrays share");
  return std::string(found);
}

}  // namespace flatbed::pth
