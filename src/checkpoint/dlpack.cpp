// The structs of DLPack, as its specification describes them
// (https://dmlc.github.io/dlpack/latest/, C API, version 1.1), declared here, so that flatbed needs
// no header of others to build.
#include "flatbed/dlpack.hpp"

#include <array>
#include <cstddef>
#include <limits>
#include <utility>
#include <vector>

#include "base/str_cat.hpp"

namespace flatbed::dlpack {

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

}  // namespace flatbed::dlpack

struct DLManagedTensor {
  flatbed::dlpack::DlTensor tensor;
  void* manager = nullptr;
  void (*deleter)(DLManagedTensor* self) = nullptr;
};

struct DLManagedTensorVersioned {
  std::uint32_t major = 1;
  std::uint32_t minor = 1;
  void* manager = nullptr;
  void (*deleter)(DLManagedTensorVersioned* self) = nullptr;
  std::uint64_t flags = 0;
  flatbed::dlpack::DlTensor tensor;
};

static_assert(sizeof(flatbed::dlpack::DlTensor) == 48 && sizeof(DLManagedTensor) == 64 &&
              sizeof(DLManagedTensorVersioned) == 80);

namespace flatbed {

namespace {

using dlpack::DlDtype;
using dlpack::DlTensor;

// In the order of Dtype. Codes: 0 int, 1 uint, 2 float, 4 bfloat, 5 complex, 6 bool, and from 7 on
// the floats of 8, 6 and 4 bits.
constexpr std::array kDlDtypes{
    DlDtype{6, 8, 1},   // boolean
    DlDtype{17, 4, 2},  // f4
    DlDtype{15, 6, 1},  // f6_e2m3
    DlDtype{16, 6, 1},  // f6_e3m2
    DlDtype{1, 8, 1},   // u8
    DlDtype{0, 8, 1},   // i8
    DlDtype{12, 8, 1},  // f8_e5m2
    DlDtype{10, 8, 1},  // f8_e4m3, torch's float8_e4m3fn
    DlDtype{14, 8, 1},  // f8_e8m0
    DlDtype{11, 8, 1},  // f8_e4m3fnuz
    DlDtype{13, 8, 1},  // f8_e5m2fnuz
    DlDtype{0, 16, 1},  // i16
    DlDtype{1, 16, 1},  // u16
    DlDtype{2, 16, 1},  // f16
    DlDtype{4, 16, 1},  // bf16
    DlDtype{0, 32, 1},  // i32
    DlDtype{1, 32, 1},  // u32
    DlDtype{2, 32, 1},  // f32
    DlDtype{5, 64, 1},  // c64
    DlDtype{2, 64, 1},  // f64
    DlDtype{0, 64, 1},  // i64
    DlDtype{1, 64, 1},  // u64
};
static_assert(kDlDtypes.size() == kDtypes.size());

// An export with everything that its struct points to. The deleter ends it.
template <typename Managed>
struct Export {
  Managed managed;
  std::shared_ptr<const void> owner;
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides;

  static void end(Managed* self) {
    if (self != nullptr) const std::unique_ptr<Export> last(static_cast<Export*>(self->manager));
  }
};

Result<std::vector<std::int64_t>> dl_shape(const DlpackMemory& memory) {
  std::vector<std::int64_t> shape;
  for (const std::uint64_t size : memory.shape) {
    if (size > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
      return make_error(ErrorCode::size_overflow, "a dimension of ", size, " does not fit DLPack");
    }
    shape.push_back(static_cast<std::int64_t>(size));
  }
  const std::uint16_t lanes = kDlDtypes[static_cast<std::size_t>(memory.dtype)].lanes;
  if (lanes == 1) return shape;
  if (shape.empty() || shape.back() % lanes != 0) {
    return make_error(ErrorCode::invalid_argument, name(memory.dtype), " ",
                      shape_text(memory.shape.data(), memory.shape.size()),
                      ": DLPack has pairs of these, expected a last dimension that is even");
  }
  shape.back() /= lanes;
  return shape;
}

// Of C order. Those of tensors without elements say nothing, so that they need not fit.
std::vector<std::int64_t> dl_strides(const std::vector<std::int64_t>& shape) {
  std::vector<std::int64_t> strides(shape.size());
  std::int64_t stride = 1;
  for (std::size_t i = shape.size(); i-- > 0;) {
    strides[i] = stride;
    if (__builtin_mul_overflow(stride, shape[i], &stride)) stride = 0;
  }
  return strides;
}

template <typename Managed>
Result<Managed*> make_export(const DlpackMemory& memory) {
  FLATBED_ASSIGN(std::vector<std::int64_t> shape, dl_shape(memory));
  auto made = std::make_unique<Export<Managed>>();
  made->strides = dl_strides(shape);
  made->shape = std::move(shape);
  made->owner = memory.owner;
  DlTensor& tensor = made->managed.tensor;
  tensor.data = memory.bytes.empty() ? nullptr : memory.bytes.data();
  tensor.device = {memory.device_type, memory.device_id};
  tensor.ndim = static_cast<std::int32_t>(made->shape.size());
  tensor.dtype = kDlDtypes[static_cast<std::size_t>(memory.dtype)];
  tensor.shape = made->shape.data();
  tensor.strides = made->strides.data();
  made->managed.manager = made.get();
  made->managed.deleter = &Export<Managed>::end;
  return &made.release()->managed;
}

}  // namespace

Result<DLManagedTensorVersioned*> export_dlpack(const DlpackMemory& memory, std::uint64_t flags) {
  FLATBED_ASSIGN(DLManagedTensorVersioned * made, make_export<DLManagedTensorVersioned>(memory));
  made->flags = flags;
  return made;
}

Result<DLManagedTensor*> export_dlpack_legacy(const DlpackMemory& memory) {
  return make_export<DLManagedTensor>(memory);
}

void end_dlpack(DLManagedTensorVersioned* made) noexcept { made->deleter(made); }
void end_dlpack(DLManagedTensor* made) noexcept { made->deleter(made); }

}  // namespace flatbed
