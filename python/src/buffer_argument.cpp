#include "buffer_argument.hpp"

#include "gil.hpp"

namespace flatbed::python {

BufferArgument::BufferArgument(const nb::handle& object, BufferUse use, const char* what) {
  if (PyObject_CheckBuffer(object.ptr()) == 0) {
    nb::raise_type_error("%s: expected an object with a buffer, not %s", what,
                         nb::type_name(object.type()).c_str());
  }
  const int flags = use == BufferUse::write ? PyBUF_WRITABLE : PyBUF_SIMPLE;
  if (PyObject_GetBuffer(object.ptr(), &buffer_, flags) == 0) return;
  // The owner's own words say little: "ndarray is not C-contiguous".
  nb::chain_error(PyExc_BufferError, "%s: expected %smemory that is contiguous in C order", what,
                  use == BufferUse::write ? "writable " : "");
  throw nb::python_error();
}

BufferArgument::~BufferArgument() {
  if (!nb::is_alive()) return;  // the interpreter is gone, and so is the owner
  const GilHeld held;
  PyBuffer_Release(&buffer_);
}

}  // namespace flatbed::python
