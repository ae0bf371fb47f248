#include "errors.hpp"

#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>

#include <string>

#include "bindings.hpp"

namespace flatbed::python {

nb::object message_text(const std::string& message) {
  nb::object text = nb::steal(PyUnicode_DecodeUTF8(
      message.data(), static_cast<Py_ssize_t>(message.size()), "backslashreplace"));
  if (!text.is_valid()) throw nb::python_error();
  return text;
}

void raise_error(const Error& error) {
  const nb::object made =
      call_python(import_python("flatbed.errors", "_from_code"), static_cast<int>(error.code),
                  name(error.code), message_text(error.message));
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(made.ptr())), made.ptr());
  throw nb::python_error();
}

Interruptible::Interruptible(const nb::object& progress)
    : callback_(progress.is_none()
                    ? progress
                    : call_python(import_python("flatbed._progress", "callback"), progress)),
      is_own_(!callback_.is(progress)) {}

ProgressCallback Interruptible::progress() {
  return [this](const Progress& progress) { return tell(progress); };
}

void Interruptible::call_back(const Progress& progress) {
  call_python(callback_, progress.bytes_done, progress.bytes_total);
}

Result<void> Interruptible::tell(const Progress& progress) {
  const GilHeld held;
  try {
    if (PyErr_CheckSignals() != 0) throw nb::python_error();
    if (!callback_.is_none()) call_back(progress);
    return {};
  } catch (nb::python_error& raised) {
    raised_.emplace(std::move(raised));
  }
  return Error{ErrorCode::cancelled, "interrupted by an exception of Python"};
}

void Interruptible::finish() {
  if (is_own_ && !callback_.is_none()) call_python(callback_.attr("close"));
  if (raised_) throw nb::python_error(std::move(*raised_));
}

void bind_errors(nb::module_& module) {
  nb::list table;
#define FLATBED_X(number, name, text) table.append(nb::make_tuple(number, #name, text));
  FLATBED_ERROR_CODES(FLATBED_X)
#undef FLATBED_X
  module.attr("ERROR_CODES") = nb::tuple(table);
}

}  // namespace flatbed::python
