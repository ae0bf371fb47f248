// Loads into the memory of GPUs: into memory that the caller has there, and into memory of
// flatbed's that others take over by DLPack (flatbed/cuda.py).
#include "gpu.hpp"

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bindings.hpp"
#include "dlpack.hpp"
#include "errors.hpp"
#include "flatbed/load_all.hpp"
#include "objects.hpp"
#if FLATBED_PYTHON_CUDA
#include "flatbed/cuda.hpp"
#endif

namespace flatbed::python {

namespace {

constexpr std::int32_t kCuda = 2;  // a DLDeviceType

#if FLATBED_PYTHON_CUDA

EngineStream engine_stream(std::uintptr_t stream) {
  constexpr std::uintptr_t kLegacy = 1;
  constexpr std::uintptr_t kPerThread = 2;
  if (stream == kLegacy) return EngineStream::legacy();
  if (stream == kPerThread) return EngineStream::per_thread();
  return EngineStream::created(reinterpret_cast<void*>(stream));
}

nb::list devices() {
  const std::vector<CudaDeviceInfo> found = value_or_raise(released([] { return cuda_devices(); }));
  nb::list rows;
  for (const CudaDeviceInfo& info : found) {
    rows.append(nb::make_tuple(info.ordinal, info.name, info.memory_nbytes, info.compute_major,
                               info.compute_minor, info.pci_bus_id));
  }
  return rows;
}

#else

Error no_cuda() {
  return {ErrorCode::device_unavailable, "this flatbed was built without flatbed::cuda"};
}

nb::list devices() { raise_error(no_cuda()); }

#endif

}  // namespace

Result<CudaDeviceObject> CudaDeviceObject::make(int ordinal, std::optional<std::uintptr_t> stream) {
#if FLATBED_PYTHON_CUDA
  CudaDeviceOptions options;
  if (stream) options.order_after = engine_stream(*stream);
  FLATBED_ASSIGN(std::unique_ptr<Device> device, cuda_device(ordinal, options));
  return CudaDeviceObject{ordinal, std::move(device)};
#else
  static_cast<void>(ordinal);
  static_cast<void>(stream);
  return no_cuda();
#endif
}

namespace {

std::unique_ptr<CudaDeviceObject> make_device(int ordinal, std::optional<std::uintptr_t> stream) {
  return std::make_unique<CudaDeviceObject>(
      value_or_raise(released([&] { return CudaDeviceObject::make(ordinal, stream); })));
}

// All that one load brought, in one block, and the device that frees it.
struct LoadedBlock {
  LoadedBlock(CudaDeviceObject device_of_it, LoadedTensors tensors)
      : device(std::move(device_of_it)), loaded(std::move(tensors)) {}
  CudaDeviceObject device;
  LoadedTensors loaded;
};

// flatbed.cuda.DeviceTensor
struct DeviceTensorObject {
  std::shared_ptr<const LoadedBlock> block;
  const LoadedTensor* tensor;

  [[nodiscard]] int ordinal() const { return block->device.ordinal; }
};

struct LoadRequest {
  int ordinal = 0;
  std::optional<std::uintptr_t> stream;
  LoadAllOptions options;
};

Result<std::shared_ptr<const LoadedBlock>> load_block(const Checkpoint& checkpoint,
                                                      const LoadRequest& request) {
  FLATBED_ASSIGN(CudaDeviceObject device, CudaDeviceObject::make(request.ordinal, request.stream));
  FLATBED_ASSIGN(LoadedTensors loaded, load_all(checkpoint, *device.device, request.options));
  return std::make_shared<const LoadedBlock>(std::move(device), std::move(loaded));
}

std::vector<DeviceTensorObject> load_to_device(const CheckpointObject& self, int ordinal,
                                               std::optional<std::uintptr_t> stream, bool verify,
                                               unsigned threads, const nb::object& progress) {
  const Checkpoint checkpoint = self.get();
  Interruptible work(progress);
  LoadRequest request{.ordinal = ordinal, .stream = stream, .options = {}};
  request.options.load.verify = verify ? Verify::yes : Verify::no;
  request.options.load.threads = threads;
  request.options.load.progress = work.progress();
  const std::shared_ptr<const LoadedBlock> block =
      work.run([&] { return load_block(checkpoint, request); });
  std::vector<DeviceTensorObject> tensors;
  for (const LoadedTensor& tensor : block->loaded.tensors()) tensors.push_back({block, &tensor});
  return tensors;
}

// A stream that a consumer names. The bytes arrived before the tensor was handed out, so that there
// is nothing to wait for on any.
void check_stream(const nb::object& stream) {
  if (stream.is_none()) return;
  std::int64_t number = 0;
  if (!nb::try_cast(stream, number)) nb::raise_type_error("stream: expected None or an integer");
  if (number == 0)
    throw nb::value_error("stream: found 0, which is ambiguous; expected 1, 2 or a handle");
}

nb::object export_tensor(const DeviceTensorObject& self, const nb::object& stream,
                         const nb::object& max_version, const nb::object& dl_device,
                         const nb::object& copy) {
  check_stream(stream);
  if (!dl_device.is_none() &&
      two_integers(dl_device, "dl_device: expected None or two integers (type, id)") !=
          std::pair<std::int64_t, std::int64_t>(kCuda, self.ordinal()))
    throw nb::buffer_error("dl_device: the tensor is in the memory of its own device");
  if (copy.is(nb::handle(Py_True))) throw nb::buffer_error("copy=True: the memory is not copied");
  const LoadedTensor& tensor = *self.tensor;
  const std::span<std::byte> bytes(tensor.data, static_cast<std::size_t>(tensor.nbytes));
  return make_dlpack_capsule({tensor.dtype, tensor.shape, bytes, self.block, kCuda, self.ordinal()},
                             {is_versioned_dlpack(max_version)});
}

nb::bytes read_tensor(const DeviceTensorObject& self) {
  const LoadedTensor& tensor = *self.tensor;
  if (tensor.nbytes == 0) return nb::bytes("", 0);
  std::vector<std::byte> bytes(static_cast<std::size_t>(tensor.nbytes));
  DeviceMemory* const memory = self.block->device.device->memory();
  value_or_raise(released([&] { return memory->read_back(tensor.data, bytes); }));
  return nb::bytes(bytes.data(), bytes.size());
}

nb::tuple shape_of(const DeviceTensorObject& self) {
  nb::list sizes;
  for (const std::uint64_t size : self.tensor->shape) sizes.append(size);
  return nb::tuple(sizes);
}

void bind_device_tensor(nb::module_& module) {
  nb::class_<DeviceTensorObject>(module, "DeviceTensor", R"(A tensor in the memory of a GPU.

``torch.from_dlpack(tensor)``, ``cupy.from_dlpack(tensor)`` and others take the memory over without
a copy. It is freed when nobody has any tensor of the same load. All members may be called from
several threads at once.)")
      .def_prop_ro(
          "name", [](const DeviceTensorObject& self) { return self.tensor->name; },
          "The tensor's own name.")
      .def_prop_ro(
          "dtype", [](const DeviceTensorObject& self) { return name(self.tensor->dtype); },
          "As in safetensors files, such as ``'BF16'``.")
      .def_prop_ro("shape", &shape_of, nb::sig("def shape(self, /) -> tuple[int, ...]"),
                   "The sizes of the dimensions, in elements.")
      .def_prop_ro(
          "nbytes", [](const DeviceTensorObject& self) { return self.tensor->nbytes; },
          "The size of the contents in bytes.")
      .def_prop_ro("device", &DeviceTensorObject::ordinal, "The number of the GPU.")
      .def_prop_ro(
          "data_ptr",
          [](const DeviceTensorObject& self) {
            return reinterpret_cast<std::uintptr_t>(self.tensor->data);
          },
          "The address of the bytes on the GPU; valid as long as this object.")
      .def("read", &read_tensor,
           "The bytes, copied back to the host, after all work that loads have queued.")
      .def("__dlpack__", &export_tensor, nb::kw_only(), nb::arg("stream") = nb::none(),
           nb::arg("max_version") = nb::none(), nb::arg("dl_device") = nb::none(),
           nb::arg("copy") = nb::none(),
           nb::sig("def __dlpack__(self, *, stream: int | None = None, "
                   "max_version: tuple[int, int] | None = None, "
                   "dl_device: tuple[int, int] | None = None, copy: bool | None = None) "
                   "-> typing_extensions.CapsuleType"))
      .def(
          "__dlpack_device__",
          [](const DeviceTensorObject& self) { return nb::make_tuple(kCuda, self.ordinal()); },
          nb::sig("def __dlpack_device__(self) -> tuple[int, int]"));
}

}  // namespace

void bind_gpu(nb::module_& module) {
  nb::class_<CudaDeviceObject>(module, "CudaDevice", "A GPU that loads write to.");
  module.def("cuda_device", &make_device, nb::arg("ordinal"), nb::arg("stream").none(),
             nb::sig("def cuda_device(ordinal: int, stream: int | None) -> CudaDevice"));
  module.def("cuda_devices", &devices,
             nb::sig("def cuda_devices() -> list[tuple[int, str, int, int, int, str]]"));
  bind_device_tensor(module);
  module.def("load_to_device", &load_to_device, nb::arg("checkpoint"), nb::arg("ordinal"),
             nb::arg("stream").none(), nb::arg("verify"), nb::arg("threads"),
             nb::arg("progress").none(),
             nb::sig("def load_to_device(checkpoint: Checkpoint, ordinal: int, stream: int | None, "
                     "verify: bool, threads: int, progress: flatbed._types.Progress) "
                     "-> list[DeviceTensor]"));
}

}  // namespace flatbed::python
