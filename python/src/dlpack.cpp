#include "dlpack.hpp"

#include <array>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "errors.hpp"

namespace flatbed::python {

namespace {

// The structs of DLPack 1.1, as its specification lays them out.

constexpr std::int32_t kHost = 1;
constexpr std::uint32_t kMajor = 1;
constexpr std::uint32_t kMinor = 1;
constexpr std::uint64_t kIsCopied = 2;  // the consumer is the only one who sees the memory

struct DlDtype {
  std::uint8_t code;
  std::uint8_t bits;  // of one lane
  std::uint16_t lanes;
};

struct DlTensor {
  void* data = nullptr;  // null if the tensor has no elements
  std::int32_t device_type = kHost;
  std::int32_t device_id = 0;
  std::int32_t ndim = 0;
  DlDtype dtype{};
  std::int64_t* shape = nullptr;
  std::int64_t* strides = nullptr;  // in elements
  std::uint64_t byte_offset = 0;
};

struct Legacy {
  static constexpr const char* kName = "dltensor";
  DlTensor tensor;
  void* manager = nullptr;
  void (*deleter)(Legacy* self) = nullptr;
};

struct Versioned {
  static constexpr const char* kName = "dltensor_versioned";
  std::uint32_t major = kMajor;
  std::uint32_t minor = kMinor;
  void* manager = nullptr;
  void (*deleter)(Versioned* self) = nullptr;
  std::uint64_t flags = 0;
  DlTensor tensor;
};

static_assert(sizeof(DlTensor) == 48 && sizeof(Legacy) == 64 && sizeof(Versioned) == 80);

// In the order of Dtype. Codes: 0 int, 1 uint, 2 float, 4 bfloat, 5 complex, 6 bool, and from 7 on
// the floats of 8, 6 and 4 bits. F4 goes in pairs, which fill whole bytes.
constexpr std::array kDlDtypes{
    DlDtype{6, 8, 1},  DlDtype{17, 4, 2}, DlDtype{15, 6, 1}, DlDtype{16, 6, 1}, DlDtype{1, 8, 1},
    DlDtype{0, 8, 1},  DlDtype{12, 8, 1}, DlDtype{10, 8, 1}, DlDtype{14, 8, 1}, DlDtype{11, 8, 1},
    DlDtype{13, 8, 1}, DlDtype{0, 16, 1}, DlDtype{1, 16, 1}, DlDtype{2, 16, 1}, DlDtype{4, 16, 1},
    DlDtype{0, 32, 1}, DlDtype{1, 32, 1}, DlDtype{2, 32, 1}, DlDtype{5, 64, 1}, DlDtype{2, 64, 1},
    DlDtype{0, 64, 1}, DlDtype{1, 64, 1},
};
static_assert(kDlDtypes.size() == kDtypes.size());

// An export with everything that its struct points to. The consumer's call of the deleter ends it,
// on any thread and without the GIL.
template <typename Managed>
struct Export {
  Managed managed;
  TensorMemory memory;
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides;

  static void end(Managed* self) {
    const std::unique_ptr<Export> last(static_cast<Export*>(self->manager));
  }
};

std::vector<std::int64_t> dl_shape(const TensorInfo& info) {
  std::vector<std::int64_t> shape(info.shape.begin(), info.shape.end());
  const std::uint16_t lanes = kDlDtypes[static_cast<std::size_t>(info.dtype)].lanes;
  if (lanes == 1) return shape;
  if (shape.empty() || shape.back() % lanes != 0) {
    PyErr_Format(PyExc_BufferError,
                 "DLPack has %s in pairs: expected a last dimension that is even",
                 std::string(name(info.dtype)).c_str());
    throw nb::python_error();
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

// A consumer renames the capsule that it takes over, and the export is then its own.
template <typename Managed>
void end_capsule(PyObject* capsule) {
  if (PyCapsule_IsValid(capsule, Managed::kName) == 0) return;
  auto* managed = static_cast<Managed*>(PyCapsule_GetPointer(capsule, Managed::kName));
  managed->deleter(managed);
}

template <typename Managed>
nb::object make_capsule(const TensorInfo& info, TensorMemory memory, std::uint64_t flags) {
  auto made =
      std::make_unique<Export<Managed>>(Export<Managed>{{}, std::move(memory), dl_shape(info), {}});
  made->strides = dl_strides(made->shape);
  DlTensor& tensor = made->managed.tensor;
  const std::span<std::byte> bytes = made->memory.bytes;
  tensor.data = bytes.empty() ? nullptr : bytes.data();
  tensor.ndim = static_cast<std::int32_t>(made->shape.size());
  tensor.dtype = kDlDtypes[static_cast<std::size_t>(info.dtype)];
  tensor.shape = made->shape.data();
  tensor.strides = made->strides.data();
  made->managed.manager = made.get();
  made->managed.deleter = &Export<Managed>::end;
  if constexpr (std::is_same_v<Managed, Versioned>) made->managed.flags = flags;
  nb::object capsule =
      nb::steal(PyCapsule_New(&made->managed, Managed::kName, &end_capsule<Managed>));
  if (!capsule.is_valid()) throw nb::python_error();
  made.release();
  return capsule;
}

// Whether the consumer reads versioned capsules. Throws TypeError for what is no version.
bool is_versioned(const nb::object& max_version) {
  if (max_version.is_none()) return false;
  std::pair<std::int64_t, std::int64_t> version;
  if (!nb::isinstance<nb::tuple>(max_version) || nb::len(max_version) != 2 ||
      !nb::try_cast(max_version[0], version.first) ||
      !nb::try_cast(max_version[1], version.second)) {
    nb::raise_type_error("max_version: expected None or two integers (major, minor)");
  }
  return version.first >= static_cast<std::int64_t>(kMajor);
}

void check_device(const nb::object& dl_device) {
  if (dl_device.is_none()) return;
  std::int64_t type = 0;
  if (!nb::isinstance<nb::tuple>(dl_device) || nb::len(dl_device) != 2 ||
      !nb::try_cast(nb::int_(dl_device[0]), type)) {
    nb::raise_type_error("dl_device: expected None or two integers (type, id)");
  }
  if (type != kHost)
    throw nb::buffer_error("dl_device: a tensor of a file is in the host's memory, (1, 0)");
}

bool wants_copy(const TensorObject& tensor, const nb::object& copy) {
  if (copy.is_none()) return false;
  if (!nb::isinstance<nb::bool_>(copy)) nb::raise_type_error("copy: expected None or a bool");
  if (nb::cast<bool>(copy)) return true;
  if (tensor.info().stored != Stored::plain) {
    throw nb::buffer_error(
        "copy=False: the tensor is not stored as its bytes are, and must be read");
  }
  return false;
}

}  // namespace

nb::object dlpack_capsule(const TensorObject& tensor, const nb::object& stream,
                          const nb::object& max_version, const nb::object& dl_device,
                          const nb::object& copy) {
  if (!stream.is_none()) throw nb::value_error("stream: expected None for the host's memory");
  const bool versioned = is_versioned(max_version);
  check_device(dl_device);
  const bool copied = wants_copy(tensor, copy);
  TensorMemory memory =
      value_or_raise(released([&] { return copied ? tensor.read_copy() : tensor.memory(); }));
  // Of a source in memory, or a tensor that is not aligned in its file, even plain bytes are read.
  if (copy.is(nb::handle(Py_False)) && !memory.is_mapping && tensor.info().nbytes != 0)
    throw nb::buffer_error("copy=False: the tensor's bytes cannot be mapped, and must be read");
  if (!versioned) return make_capsule<Legacy>(tensor.info(), std::move(memory), 0);
  return make_capsule<Versioned>(tensor.info(), std::move(memory), copied ? kIsCopied : 0);
}

nb::tuple dlpack_device(const TensorObject&) { return nb::make_tuple(kHost, 0); }

}  // namespace flatbed::python
