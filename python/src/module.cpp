// The compiled module flatbed._flatbed. The package in python/flatbed/ is what programs import.
#include <nanobind/stl/string.h>

#include <string>

#include "bindings.hpp"
#include "flatbed/version.hpp"

NB_MODULE(_flatbed, module) {
  module.doc() = "The compiled part of flatbed.";
#ifdef NDEBUG
  // torch keeps the memory of mapped tensors until the process ends, which is no leak of this
  // module, but would be reported as one.
  nanobind::set_leak_warnings(false);
#endif
  module.attr("VERSION") = std::to_string(FLATBED_VERSION_MAJOR) + "." +
                           std::to_string(FLATBED_VERSION_MINOR) + "." +
                           std::to_string(FLATBED_VERSION_PATCH);
  flatbed::python::bind_errors(module);
  flatbed::python::bind_tensor(module);
  flatbed::python::bind_checkpoint(module);
  flatbed::python::bind_commands(module);
  flatbed::python::bind_gpu(module);
  flatbed::python::bind_state(module);
  flatbed::python::bind_ranks(module);
  flatbed::python::bind_series(module);
  flatbed::python::bind_safetensors(module);
  flatbed::python::bind_safetensors_save(module);
}
