// The structs of DLPack, as its specification describes them
// (https://dmlc.github.io/dlpack/latest/, C API, version 1.1): what a consumer calls DLTensor,
// DLManagedTensor and DLManagedTensorVersioned. Declared here, so that flatbed needs no header of
// others to build.
#pragma once

#include <cstddef>
#include <cstdint>

// The two that flatbed.h names have the names of the specification.
namespace flatbed::c {

struct DlDevice {
  std::int32_t type = 0;  // 1: the host, 2: CUDA
  std::int32_t id = 0;
};

struct DlDtype {
  std::uint8_t code = 0;
  std::uint8_t bits = 0;  // of one lane
  std::uint16_t lanes = 0;
};

struct DlTensor {
  void* data = nullptr;  // null if the tensor has no elements
  DlDevice device;
  std::int32_t ndim = 0;
  DlDtype dtype;
  std::int64_t* shape = nullptr;
  std::int64_t* strides = nullptr;  // in elements
  std::uint64_t byte_offset = 0;
};

}  // namespace flatbed::c

struct DLManagedTensor {
  flatbed::c::DlTensor tensor;
  void* manager = nullptr;
  void (*deleter)(DLManagedTensor* self) = nullptr;
};

struct DLManagedTensorVersioned {
  std::uint32_t major = 1;
  std::uint32_t minor = 1;
  void* manager = nullptr;
  void (*deleter)(DLManagedTensorVersioned* self) = nullptr;
  std::uint64_t flags = 0;
  flatbed::c::DlTensor tensor;
};

static_assert(sizeof(flatbed::c::DlTensor) == 48 && sizeof(DLManagedTensor) == 64 &&
              sizeof(DLManagedTensorVersioned) == 80);
