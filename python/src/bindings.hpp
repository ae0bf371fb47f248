// The rooms of the compiled module: each adds its classes and functions to it.
#pragma once

#include <nanobind/nanobind.h>

namespace flatbed::python {

namespace nb = nanobind;

void bind_errors(nb::module_& module);
void bind_tensor(nb::module_& module);
void bind_checkpoint(nb::module_& module);
void bind_commands(nb::module_& module);
void bind_gpu(nb::module_& module);
void bind_state(nb::module_& module);
void bind_ranks(nb::module_& module);
void bind_series(nb::module_& module);
void bind_safetensors(nb::module_& module);
void bind_safetensors_save(nb::module_& module);

}  // namespace flatbed::python
