// flatbed.Tensor: reading, and the bytes as memory: buffer protocol, DLPack, numpy.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "bindings.hpp"
#include "buffer_argument.hpp"
#include "dlpack.hpp"
#include "errors.hpp"
#include "flatbed/device.hpp"
#include "flatbed/private_view.hpp"
#include "flatbed/save_plan.hpp"
#include "objects.hpp"

namespace flatbed::python {

namespace {

constexpr std::array kStoredNames{"plain",    "strided", "byteswapped",
                                  "deflated", "held",    "computed"};
static_assert(kStoredNames.size() == static_cast<std::size_t>(Stored::computed) + 1);

// The formats of Python's struct module, in the order of Dtype; null: there is none.
constexpr std::array<const char*, kDtypes.size()> kFormats{
    "?", nullptr, nullptr, nullptr, "B", "b", nullptr, nullptr, nullptr, nullptr, nullptr,
    "h", "H",     "e",     nullptr, "i", "I", "f",     "Zf",    "d",     "q",     "Q"};

const char* format_of(const TensorInfo& info) {
  return kFormats[static_cast<std::size_t>(info.dtype)];
}

nb::tuple shape_of(const TensorInfo& info) {
  nb::list shape;
  for (const std::uint64_t size : info.shape) shape.append(size);
  return nb::tuple(shape);
}

std::string repr(const TensorObject& self) {
  const TensorInfo& info = self.info();
  return nb::cast<std::string>(nb::str("flatbed.Tensor({!r}, {}, shape={})")
                                   .attr("format")(info.name, name(info.dtype), shape_of(info)));
}

Verify to_verify(bool verify) { return verify ? Verify::yes : Verify::no; }

// The number of bytes from `offset`: `nbytes`, or all. Throws if the tensor does not have them.
std::uint64_t length_of(const TensorInfo& info, std::uint64_t offset,
                        std::optional<std::uint64_t> nbytes) {
  const std::uint64_t rest = offset < info.nbytes ? info.nbytes - offset : 0;
  const std::uint64_t wanted = nbytes.value_or(rest);
  if (offset > info.nbytes || wanted > rest) {
    raise_error({ErrorCode::buffer_too_small, "tensor '" + std::string(info.name) +
                                                  "': " + std::to_string(wanted) + " bytes at " +
                                                  std::to_string(offset) + ", it has " +
                                                  std::to_string(info.nbytes)});
  }
  return wanted;
}

// A few stored bytes can stand for a tensor of any size (a stride of 0), for which memory is not
// asked. read_into() takes what its caller has.
Result<void> check_size(const TensorObject& self, std::uint64_t nbytes) {
  Result<void> fits = check_expansion(self.checkpoint(), nbytes);
  if (fits) return fits;
  return Error{fits.error().code,
               "tensor '" + std::string(self.info().name) + "': " + fits.error().message};
}

nb::bytes read(const TensorObject& self, std::uint64_t offset, std::optional<std::uint64_t> nbytes,
               bool verify) {
  const std::uint64_t length = length_of(self.info(), offset, nbytes);
  value_or_raise(check_size(self, length));
  nb::object out = nb::steal(PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(length)));
  if (!out.is_valid()) throw nb::python_error();
  const std::span bytes(reinterpret_cast<std::byte*>(PyBytes_AsString(out.ptr())), length);
  value_or_raise(released(
      [&] { return self.checkpoint().read(self.info(), offset, bytes, to_verify(verify)); }));
  return nb::steal<nb::bytes>(out.release());
}

std::uint64_t read_into(const TensorObject& self, const nb::object& buffer, std::uint64_t offset,
                        bool verify) {
  const BufferArgument out(buffer, BufferUse::write, "buffer");
  value_or_raise(released(
      [&] { return self.checkpoint().read(self.info(), offset, out.bytes(), to_verify(verify)); }));
  return out.bytes().size();
}

// ---- the buffer protocol ------------------------------------------------------------------------

// What a Py_buffer of a tensor points to.
struct Exported {
  TensorMemory memory;
  std::vector<Py_ssize_t> shape;
  std::vector<Py_ssize_t> strides;
};

std::byte no_bytes{};

std::unique_ptr<Exported> export_memory(const TensorObject& tensor) {
  const TensorInfo& info = tensor.info();
  auto made = std::make_unique<Exported>(
      Exported{value_or_raise(released([&] { return tensor.memory(); })), {}, {}});
  Py_ssize_t stride = static_cast<Py_ssize_t>(bits(info.dtype) / 8);
  made->shape.assign(info.shape.begin(), info.shape.end());
  made->strides.resize(made->shape.size());
  for (std::size_t i = made->shape.size(); i-- > 0;) {
    made->strides[i] = stride;
    if (__builtin_mul_overflow(stride, made->shape[i], &stride))
      stride = 0;  // only without elements
  }
  return made;
}

void fill(Py_buffer& view, const TensorInfo& info, std::unique_ptr<Exported> made, int flags) {
  const std::span<std::byte> bytes = made->memory.bytes;
  view.buf = bytes.empty() ? &no_bytes : bytes.data();
  view.len = static_cast<Py_ssize_t>(bytes.size());
  view.readonly = 0;
  view.itemsize = static_cast<Py_ssize_t>(bits(info.dtype) / 8);
  view.format = (flags & PyBUF_FORMAT) != 0 ? const_cast<char*>(format_of(info)) : nullptr;
  // Without a shape these are bytes in a row, for consumers that look at the number of dimensions.
  view.ndim = (flags & PyBUF_ND) != 0 ? static_cast<int>(made->shape.size()) : 1;
  view.shape = (flags & PyBUF_ND) != 0 ? made->shape.data() : nullptr;
  view.strides = (flags & PyBUF_STRIDES) == PyBUF_STRIDES ? made->strides.data() : nullptr;
  view.suboffsets = nullptr;
  view.internal = made.release();
}

// Whether C order and Fortran's are the same: at most one dimension is not 1.
bool is_fortran_order(const TensorInfo& info) {
  return info.nbytes == 0 ||
         std::ranges::count_if(info.shape, [](std::uint64_t size) { return size != 1; }) <= 1;
}

int get_buffer(PyObject* self, Py_buffer* view, int flags) {
  view->obj = nullptr;
  try {
    const auto& tensor = nb::cast<const TensorObject&>(nb::handle(self));
    const TensorInfo& info = tensor.info();
    if (format_of(info) == nullptr) {
      PyErr_Format(PyExc_BufferError,
                   "a tensor of dtype %s has no buffer, because Python has no format for it; use "
                   "read() or DLPack",
                   std::string(name(info.dtype)).c_str());
      return -1;
    }
    if ((flags & PyBUF_F_CONTIGUOUS) == PyBUF_F_CONTIGUOUS && !is_fortran_order(info)) {
      PyErr_SetString(PyExc_BufferError, "a tensor is contiguous in C order, not in Fortran's");
      return -1;
    }
    fill(*view, info, export_memory(tensor), flags);
    view->obj = nb::handle(self).inc_ref().ptr();
    return 0;
  } catch (nb::python_error& raised) {
    raised.restore();
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_BufferError, error.what());
  }
  return -1;
}

void release_buffer(PyObject*, Py_buffer* view) {
  const std::unique_ptr<Exported> last(static_cast<Exported*>(view->internal));
}

PyType_Slot kSlots[] = {
    {Py_bf_getbuffer, reinterpret_cast<void*>(get_buffer)},
    {Py_bf_releasebuffer, reinterpret_cast<void*>(release_buffer)},
    {0, nullptr},
};

}  // namespace

Result<TensorMemory> TensorObject::memory() const {
  const std::lock_guard lock(mutex_);
  if (!memory_) {
    FLATBED_TRY(check_size(*this, info_.nbytes));
    FLATBED_ASSIGN(PrivateView view, PrivateView::make(checkpoint_, info_));
    const std::span<std::byte> bytes = view.bytes();
    const bool is_mapping = view.is_mapping();
    memory_ = TensorMemory{std::make_shared<const PrivateView>(std::move(view)), bytes, is_mapping};
  }
  return *memory_;
}

Result<TensorMemory> TensorObject::read_copy() const {
  struct Owned {
    std::unique_ptr<Device> host;
    DeviceBuffer buffer;
  };
  FLATBED_TRY(check_size(*this, info_.nbytes));
  std::unique_ptr<Device> host = host_device();
  FLATBED_ASSIGN(DeviceBuffer buffer, DeviceBuffer::allocate(*host, info_.nbytes));
  const std::span bytes(buffer.data(), info_.nbytes);
  FLATBED_TRY(checkpoint_.read(info_, 0, bytes));
  return TensorMemory{std::make_shared<const Owned>(std::move(host), std::move(buffer)), bytes};
}

namespace {

void bind_properties(nb::class_<TensorObject>& tensor) {
  tensor
      .def_prop_ro(
          "name", [](const TensorObject& self) { return self.info().name; },
          "The tensor's own name, also where an alias found it.")
      .def_prop_ro(
          "dtype", [](const TensorObject& self) { return name(self.info().dtype); },
          "The name that safetensors files have for the element type, such as ``'BF16'``.")
      .def_prop_ro(
          "shape", [](const TensorObject& self) { return shape_of(self.info()); },
          nb::sig("def shape(self, /) -> tuple[int, ...]"),
          "The sizes of the dimensions, in elements; ``()`` is a scalar.")
      .def_prop_ro(
          "nbytes", [](const TensorObject& self) { return self.info().nbytes; },
          "The size of the contents in bytes.")
      .def_prop_ro(
          "stored",
          [](const TensorObject& self) {
            return kStoredNames[static_cast<std::size_t>(self.info().stored)];
          },
          "How the file stores the bytes: ``'plain'`` (as they are: these are mapped),\n"
          "``'strided'``, ``'byteswapped'``, ``'deflated'``, ``'held'`` (in memory, since\n"
          "the file was opened) or ``'computed'`` (cast, joined or split).");
}

void bind_reading(nb::class_<TensorObject>& tensor) {
  tensor
      .def("read", &read, nb::arg("offset") = 0, nb::arg("nbytes") = nb::none(), nb::kw_only(),
           nb::arg("verify") = true,
           nb::sig("def read(self, offset: int = 0, nbytes: int | None = None, *, "
                   "verify: bool = True) -> bytes"),
           R"(The bytes from ``offset``, in C order, little endian: ``nbytes`` of them, or the rest.

Of a sealed file, every 256 KiB that are touched are compared with their digest, unless
``verify`` is False.

Raises:
    SealError: bytes do not match their digest.
    FileError: the file could not be read, or changed since it was opened.
    Error: the tensor has no such bytes (``buffer_too_small``), or they are more than 1 GiB and 16
        times the size of the file (``expansion_refused``): ``read_into()`` reads those.)")
      .def("read_into", &read_into, nb::arg("buffer"), nb::arg("offset") = 0, nb::kw_only(),
           nb::arg("verify") = true,
           nb::sig("def read_into(self, buffer: flatbed._types.BufferLike, offset: int = 0, *, "
                   "verify: bool = True) -> int"),
           R"(Fills ``buffer`` with the bytes from ``offset`` on, and returns how many these are.

``buffer`` is writable memory that is contiguous in C order (a bytearray, a numpy array); its size
says how much is read. After an error its contents are unspecified.

Raises:
    TypeError, BufferError: ``buffer`` is no such memory.
    SealError, FileError, Error: as ``read()``.)");
}

void bind_memory(nb::class_<TensorObject>& tensor) {
  tensor
      .def("__dlpack__", &dlpack_capsule, nb::kw_only(), nb::arg("stream") = nb::none(),
           nb::arg("max_version") = nb::none(), nb::arg("dl_device") = nb::none(),
           nb::arg("copy") = nb::none(),
           nb::sig("def __dlpack__(self, *, stream: None = None, "
                   "max_version: tuple[int, int] | None = None, "
                   "dl_device: tuple[int, int] | None = None, copy: bool | None = None) "
                   "-> typing_extensions.CapsuleType"),
           R"(The memory as a DLPack capsule, as the array API 2024.12 says.

All exports of one Tensor share its memory, but with ``copy=True`` the bytes are read, verified,
into memory of the consumer's own. The capsule keeps what it needs alive.

Raises:
    BufferError: ``dl_device`` is not the host, ``copy=False`` and the bytes cannot be mapped, or
        an odd number of F4.)")
      .def("__dlpack_device__", &dlpack_device,
           nb::sig("def __dlpack_device__(self) -> tuple[int, int]"),
           "``(1, 0)``: the host's memory.")
      .def(
          "__array__",
          [](const nb::object& self, const nb::object& dtype, const nb::object& copy) {
            return call_python(import_python("flatbed._array", "as_array"), self, dtype, copy);
          },
          nb::arg("dtype") = nb::none(), nb::arg("copy") = nb::none(),
          nb::sig("def __array__(self, dtype: typing.Any = None, copy: bool | None = None) "
                  "-> typing.Any"),
          R"(The numpy array for ``numpy.asarray()``; shares the memory unless ``copy`` is True.

Raises:
    TypeError: numpy has no such dtype (BF16, and floats of 4 to 8 bits).)");
}

}  // namespace

void bind_tensor(nb::module_& module) {
  nb::class_<TensorObject> tensor(module, "Tensor", nb::type_slots(kSlots),
                                  nb::sig("class Tensor(typing_extensions.Buffer)"),
                                  nb::is_weak_referenceable(), R"(A tensor of a checkpoint.

Nothing is read until it is asked for. ``read()`` and ``read_into()`` verify what they read. The
buffer protocol, ``numpy.asarray(tensor)`` and ``torch.from_dlpack(tensor)`` share memory without a
copy: a private mapping of the file, which may be written (the file and other Tensors never see
it), and whose bytes are not verified. What is not stored as its bytes are is read, verified, when
its memory is first asked for.

A Tensor keeps the file open and the memory alive; it may outlive its checkpoint. All members may
be called from several threads at once.)");
  module.def(
      "check_expansion",
      [](const TensorObject& self) { value_or_raise(check_size(self, self.info().nbytes)); },
      nb::arg("tensor"), "Raises what read() does if the tensor is too large.");
  bind_properties(tensor);
  bind_reading(tensor);
  bind_memory(tensor);
  tensor.def("__repr__", &repr)
      .def(
          "__reduce__",
          [](const TensorObject&) {
            nb::raise_type_error("cannot pickle a flatbed.Tensor: it belongs to an open file");
          },
          nb::sig("def __reduce__(self) -> typing.NoReturn"));
}

}  // namespace flatbed::python
