// flatbed.Tensor
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>

#include <string>

#include "bindings.hpp"
#include "errors.hpp"
#include "objects.hpp"

namespace flatbed::python {

namespace {

constexpr std::array kStoredNames{"plain",    "strided", "byteswapped",
                                  "deflated", "held",    "computed"};

nb::tuple shape_of(const TensorInfo& info) {
  nb::list shape;
  for (const std::uint64_t size : info.shape) shape.append(size);
  return nb::tuple(shape);
}

nb::bytes read_all(const TensorObject& tensor) {
  nb::bytes out = nb::steal<nb::bytes>(
      PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(tensor.info().nbytes)));
  if (!out.is_valid()) throw nb::python_error();
  const std::span<std::byte> bytes(reinterpret_cast<std::byte*>(PyBytes_AsString(out.ptr())),
                                   tensor.info().nbytes);
  value_or_raise(released([&] { return tensor.checkpoint().read(tensor.info(), 0, bytes); }));
  return out;
}

}  // namespace

Result<PrivateView> TensorObject::memory() const {
  const std::lock_guard lock(mutex_);
  if (!memory_) {
    FLATBED_ASSIGN(memory_, PrivateView::make(checkpoint_, info_));
  }
  return *memory_;
}

void bind_tensor(nb::module_& module) {
  nb::class_<TensorObject>(module, "Tensor",
                           "A tensor of a checkpoint. Keeps the file open as long as it exists.")
      .def_prop_ro("name", [](const TensorObject& self) { return self.info().name; })
      .def_prop_ro("dtype", [](const TensorObject& self) { return name(self.info().dtype); })
      .def_prop_ro("shape", [](const TensorObject& self) { return shape_of(self.info()); })
      .def_prop_ro("nbytes", [](const TensorObject& self) { return self.info().nbytes; })
      .def_prop_ro("stored",
                   [](const TensorObject& self) {
                     return kStoredNames[static_cast<std::size_t>(self.info().stored)];
                   })
      .def("read", &read_all, "The tensor's bytes, verified if the file is sealed.");
}

}  // namespace flatbed::python
