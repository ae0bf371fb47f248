// A tensor's memory as a DLPack capsule (https://dmlc.github.io/dlpack): torch.from_dlpack() and
// the like take it over without a copy.
#pragma once

#include <nanobind/nanobind.h>

#include "objects.hpp"

namespace flatbed::python {

// Tensor.__dlpack__(), with the arguments of the array API 2024.12. Throws BufferError where the
// tensor cannot be exported as asked.
nb::object dlpack_capsule(const TensorObject& tensor, const nb::object& stream,
                          const nb::object& max_version, const nb::object& dl_device,
                          const nb::object& copy);

// Tensor.__dlpack_device__(): (1, 0), the host's memory.
nb::tuple dlpack_device(const TensorObject& tensor);

}  // namespace flatbed::python
