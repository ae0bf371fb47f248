// A tensor's memory as a DLPack capsule (https://dmlc.github.io/dlpack): torch.from_dlpack() and
// the like take it over without a copy.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <utility>

#include "flatbed/dlpack.hpp"
#include "objects.hpp"

namespace flatbed::python {

// What a consumer asks for, for the tensors of every device.
struct DlpackRequest {
  bool versioned = false;
  std::uint64_t flags = 0;  // of export_dlpack()
};
// Throws TypeError if `max_version` is no version.
bool is_versioned_dlpack(const nb::object& max_version);
// A tuple of two integers, such as (major, minor). Throws TypeError, with the text, for others.
std::pair<std::int64_t, std::int64_t> two_integers(const nb::object& given, const char* expected);
// Throws BufferError where the memory cannot be exported.
nb::object make_dlpack_capsule(const DlpackMemory& memory, const DlpackRequest& request);

// Tensor.__dlpack__(), with the arguments of the array API 2024.12. Throws BufferError where the
// tensor cannot be exported as asked.
nb::object dlpack_capsule(const TensorObject& tensor, const nb::object& stream,
                          const nb::object& max_version, const nb::object& dl_device,
                          const nb::object& copy);

// Tensor.__dlpack_device__(): (1, 0), the host's memory.
nb::tuple dlpack_device(const TensorObject& tensor);

}  // namespace flatbed::python
