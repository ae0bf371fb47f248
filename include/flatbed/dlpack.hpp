// export_dlpack(): memory of a tensor as DLPack, which frameworks take over without a copy
// (https://dmlc.github.io/dlpack): versioned (1.1), and the legacy form.
//
//   FLATBED_ASSIGN(const TensorInfo weight, checkpoint.tensor("fc.weight"));
//   FLATBED_ASSIGN(const PrivateView view, PrivateView::make(checkpoint, weight));
//   const auto owner = std::make_shared<const PrivateView>(view);
//   FLATBED_ASSIGN(DLManagedTensorVersioned* made,
//                  export_dlpack({weight.dtype, weight.shape, view.bytes(), owner}));
//   use(made);
//
// The structs are those of dlpack.h, which is not needed here. Whoever takes an export over calls
// its deleter once, on any thread; end_dlpack() does so for one that nobody took.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "flatbed/dtype.hpp"
#include "flatbed/export.hpp"
#include "flatbed/result.hpp"
#include "flatbed/tensor.hpp"

struct DLManagedTensor;
struct DLManagedTensorVersioned;

namespace flatbed {

// What an export shows, in C order, and what it keeps until it ends.
struct DlpackMemory {
  Dtype dtype = Dtype::u8;
  ShapeView shape;             // copied
  std::span<std::byte> bytes;  // that the consumer may write; of a device, an address there
  std::shared_ptr<const void> owner;
  std::int32_t device_type = 1;  // a DLDeviceType: 1 is the host, 2 is CUDA
  std::int32_t device_id = 0;
};

// The flags of a versioned export: nobody but its consumer sees the memory.
inline constexpr std::uint64_t kDlpackIsCopied = 2;

// The export is the caller's until somebody takes it over; it keeps `owner` alive. Floats of 4 bits
// go in pairs, which fill whole bytes: the last dimension is half as long. Thread-safe. Errors:
// size_overflow; invalid_argument (floats of 4 bits whose last dimension is odd).
[[nodiscard]] FLATBED_EXPORT Result<DLManagedTensorVersioned*> export_dlpack(
    const DlpackMemory& memory, std::uint64_t flags = 0);
[[nodiscard]] FLATBED_EXPORT Result<DLManagedTensor*> export_dlpack_legacy(
    const DlpackMemory& memory);

FLATBED_EXPORT void end_dlpack(DLManagedTensorVersioned* made) noexcept;
FLATBED_EXPORT void end_dlpack(DLManagedTensor* made) noexcept;

}  // namespace flatbed
