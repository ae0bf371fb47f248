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
  const nb::object made = nb::module_::import_("flatbed.errors")
                              .attr("_from_code")(static_cast<int>(error.code), name(error.code),
                                                  message_text(error.message));
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(made.ptr())), made.ptr());
  throw nb::python_error();
}

Interruptible::Interruptible(const nb::object& progress)
    : callback_(progress.is_none()
                    ? progress
                    : nb::module_::import_("flatbed._progress").attr("callback")(progress)),
      is_own_(!callback_.is(progress)) {}

ProgressCallback Interruptible::progress() {
  return [this](const Progress& progress) { return tell(progress); };
}

// The interpreter may end inside the callback, see gil.hpp: no destructor of C++ is in between.
void Interruptible::call_back(const Progress& progress) {
  const auto done = static_cast<unsigned long long>(progress.bytes_done);
  const auto total = static_cast<unsigned long long>(progress.bytes_total);
  PyObject* const told =
      take_gil([&] { return PyObject_CallFunction(callback_.ptr(), "KK", done, total); });
  if (told == nullptr) throw nb::python_error();
  Py_DECREF(told);
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
  if (is_own_ && !callback_.is_none()) callback_.attr("close")();
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
