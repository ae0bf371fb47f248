#include "dlpack.hpp"

#include <cstdint>
#include <utility>

#include "errors.hpp"
#include "flatbed/dlpack.hpp"

namespace flatbed::python {

namespace {

constexpr std::int32_t kHost = 1;
constexpr std::int64_t kMajor = 1;  // of the versioned form

template <typename Managed>
constexpr const char* kName = "dltensor";
template <>
constexpr const char* kName<DLManagedTensorVersioned> = "dltensor_versioned";

// A consumer renames the capsule that it takes over, and the export is then its own.
template <typename Managed>
void end_capsule(PyObject* capsule) {
  if (PyCapsule_IsValid(capsule, kName<Managed>) == 0) return;
  end_dlpack(static_cast<Managed*>(PyCapsule_GetPointer(capsule, kName<Managed>)));
}

template <typename Managed>
nb::object make_capsule(const Result<Managed*>& made) {
  if (!made) {
    PyErr_SetString(PyExc_BufferError, made.error().message.c_str());
    throw nb::python_error();
  }
  nb::object capsule = nb::steal(PyCapsule_New(*made, kName<Managed>, &end_capsule<Managed>));
  if (capsule.is_valid()) return capsule;
  end_dlpack(*made);
  throw nb::python_error();
}

}  // namespace

std::pair<std::int64_t, std::int64_t> two_integers(const nb::object& given, const char* expected) {
  std::pair<std::int64_t, std::int64_t> pair;
  if (!nb::isinstance<nb::tuple>(given) || nb::len(given) != 2 ||
      !nb::try_cast(given[0], pair.first) || !nb::try_cast(given[1], pair.second))
    nb::raise_type_error("%s", expected);
  return pair;
}

bool is_versioned_dlpack(const nb::object& max_version) {
  if (max_version.is_none()) return false;
  const auto [major, minor] =
      two_integers(max_version, "max_version: expected None or two integers (major, minor)");
  return major >= kMajor;
}

nb::object make_dlpack_capsule(const DlpackMemory& memory, const DlpackRequest& request) {
  if (request.versioned) return make_capsule(export_dlpack(memory, request.flags));
  return make_capsule(export_dlpack_legacy(memory));
}

namespace {

void check_device(const nb::object& dl_device) {
  if (dl_device.is_none()) return;
  const auto [type, id] =
      two_integers(dl_device, "dl_device: expected None or two integers (type, id)");
  if (type != kHost)
    throw nb::buffer_error("dl_device: a tensor of a file is in the host's memory, (1, 0)");
}

bool wants_copy(const TensorObject& tensor, const nb::object& copy) {
  if (copy.is_none()) return false;
  if (!nb::isinstance<nb::bool_>(copy)) nb::raise_type_error("copy: expected None or a bool");
  if (nb::cast<bool>(copy)) return true;
  if (tensor.info().stored != Stored::plain) {
    throw nb::buffer_error(
        "copy=False: the tensor is not stored as its bytes are, and must be read");
  }
  return false;
}

}  // namespace

nb::object dlpack_capsule(const TensorObject& tensor, const nb::object& stream,
                          const nb::object& max_version, const nb::object& dl_device,
                          const nb::object& copy) {
  if (!stream.is_none()) throw nb::value_error("stream: expected None for the host's memory");
  const bool versioned = is_versioned_dlpack(max_version);
  check_device(dl_device);
  const bool copied = wants_copy(tensor, copy);
  const TensorMemory memory =
      value_or_raise(released([&] { return copied ? tensor.read_copy() : tensor.memory(); }));
  // Of a source in memory, or a tensor that is not aligned in its file, even plain bytes are read.
  if (copy.is(nb::handle(Py_False)) && !memory.is_mapping && tensor.info().nbytes != 0)
    throw nb::buffer_error("copy=False: the tensor's bytes cannot be mapped, and must be read");
  const TensorInfo& info = tensor.info();
  const DlpackMemory shown{info.dtype, info.shape, memory.bytes, memory.owner};
  return make_dlpack_capsule(shown, {versioned, copied ? kDlpackIsCopied : 0});
}

nb::tuple dlpack_device(const TensorObject&) { return nb::make_tuple(kHost, 0); }

}  // namespace flatbed::python
