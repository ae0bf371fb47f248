// flatbed._flatbed.SafetensorsFile and its memory: what flatbed.safetensors.safe_open stands on.
#include <nanobind/stl/filesystem.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/unique_ptr.h>

#include <algorithm>
#include <memory>
#include <string_view>
#include <vector>

#include "bindings.hpp"
#include "buffer_argument.hpp"
#include "errors.hpp"
#include "safetensors_file.hpp"

namespace flatbed::python {

namespace {

using FilePtr = std::shared_ptr<const SafetensorsFile>;

nb::object text(std::string_view utf8) {
  return nb::steal(
      PyUnicode_DecodeUTF8(utf8.data(), static_cast<Py_ssize_t>(utf8.size()), nullptr));
}

// Work that Ctrl-C ends.
template <typename Work>
auto interruptible(Work&& work) {
  Interruptible running{nb::none()};
  const ProgressCallback progress = running.progress();
  return running.run([&] { return work(progress); });
}

// ---- memory -------------------------------------------------------------------------------------

std::byte no_bytes{};

int get_buffer(PyObject* self, Py_buffer* view, int flags) {
  if (!nb::inst_ready(nb::handle(self))) {  // made by __new__() alone
    view->obj = nullptr;
    PyErr_SetString(PyExc_BufferError, "the memory was never initialized");
    return -1;
  }
  const std::span<std::byte> bytes = nb::inst_ptr<Memory>(nb::handle(self))->bytes;
  return PyBuffer_FillInfo(view, self, bytes.empty() ? &no_bytes : bytes.data(),
                           static_cast<Py_ssize_t>(bytes.size()), 0, flags);
}

PyType_Slot kMemorySlots[] = {
    {Py_bf_getbuffer, reinterpret_cast<void*>(get_buffer)},
    {0, nullptr},
};

// ---- the file -----------------------------------------------------------------------------------

struct FileObject {
  SafetensorsFile file;

  [[nodiscard]] std::span<const TensorInfo> tensors() const { return file.checkpoint().tensors(); }
  [[nodiscard]] const TensorInfo& tensor(std::uint32_t index) const {
    if (index >= tensors().size()) throw nb::index_error("no such tensor");
    return tensors()[index];
  }
};

Verify to_verify(bool verify) { return verify ? Verify::yes : Verify::no; }

std::unique_ptr<FileObject> open_file(const std::filesystem::path& path, bool verify,
                                      VerifiedFiles& known) {
  return std::make_unique<FileObject>(value_or_raise(
      released([&] { return SafetensorsFile::open(path, to_verify(verify), known); })));
}

nb::list shape_of(const TensorInfo& info) {
  nb::list shape;
  for (const std::uint64_t size : info.shape) shape.append(size);
  return shape;
}

// In the order of the data.
nb::list offset_keys(const FileObject& self) {
  PyObject* const list = PyList_New(static_cast<Py_ssize_t>(self.tensors().size()));
  if (list == nullptr) throw nb::python_error();
  nb::list names = nb::steal<nb::list>(list);
  Py_ssize_t i = 0;
  for (const TensorInfo& tensor : self.tensors()) {
    nb::object name = text(tensor.name);
    if (!name.is_valid()) throw nb::python_error();
    PyList_SetItem(list, i++, name.release().ptr());
  }
  return names;
}

// Python's sort takes the few sorted runs of names that most files have (one for each dtype) in
// linear time.
nb::list keys(const FileObject& self) {
  nb::list names = offset_keys(self);
  if (PyList_Sort(names.ptr()) != 0) throw nb::python_error();
  return names;
}

bool is_own_key(std::string_view key) { return key == "flatbed" || key.starts_with("flatbed."); }

nb::object metadata(const FileObject& self) {
  nb::dict pairs;
  for (const auto& [key, value] : self.file.checkpoint().metadata()) {
    if (!is_own_key(key)) pairs[text(key)] = text(value);
  }
  if (pairs.size() == 0) return nb::none();
  return pairs;
}

nb::object find(const FileObject& self, std::string_view wanted) {
  const std::optional<std::uint32_t> index = self.file.find(wanted);
  if (!index) return nb::none();
  const TensorInfo& info = self.tensors()[*index];
  return nb::make_tuple(*index, text(name(info.dtype)), shape_of(info), info.nbytes);
}

void check(const FileObject& self, std::uint32_t tensor, std::uint64_t begin, std::uint64_t end) {
  const std::uint64_t nbytes = self.tensor(tensor).nbytes;
  interruptible([&](const ProgressCallback& progress) {
    return self.file.check(tensor, begin, std::min(end, nbytes), progress);
  });
}

Memory view(const FileObject& self, std::uint32_t tensor) {
  const std::uint64_t nbytes = self.tensor(tensor).nbytes;
  return interruptible([&](const ProgressCallback& progress) -> Result<Memory> {
    if (Result<void> good = self.file.check(tensor, 0, nbytes, progress); !good)
      return std::move(good).error();
    return self.file.view(tensor);
  });
}

Memory view_unchecked(const FileObject& self, std::uint32_t tensor) {
  static_cast<void>(self.tensor(tensor));
  return value_or_raise(released([&] { return self.file.view(tensor); }));
}

Memory read(const FileObject& self, std::uint32_t tensor, std::uint64_t begin,
            std::uint64_t nbytes) {
  const std::uint64_t size = self.tensor(tensor).nbytes;
  if (begin > size || nbytes > size - begin) throw nb::index_error("the tensor has no such bytes");
  return interruptible([&](const ProgressCallback& progress) {
    return self.file.read(tensor, begin, nbytes, progress);
  });
}

Result<std::vector<Memory>> view_all(const FileObject& self, const ProgressCallback& progress) {
  if (Result<void> good = self.file.check_all(progress); !good) return std::move(good).error();
  std::vector<Memory> memories;
  memories.reserve(self.tensors().size());
  for (const TensorInfo& tensor : self.tensors()) {
    Result<Memory> memory = self.file.view(tensor.index);
    if (!memory) return std::move(memory).error();
    memories.push_back(*std::move(memory));
  }
  return memories;
}

// (name, dtype, shape, memory) of every tensor, in the order of the file.
nb::list all(const FileObject& self, bool copy) {
  std::vector<Memory> memories = interruptible([&](const ProgressCallback& progress) {
    return copy ? self.file.read_all(progress) : view_all(self, progress);
  });
  nb::list result;
  for (std::size_t i = 0; i < memories.size(); ++i) {
    const TensorInfo& info = self.tensors()[i];
    result.append(nb::make_tuple(text(info.name), text(name(info.dtype)), shape_of(info),
                                 std::move(memories[i])));
  }
  return result;
}

// ---- a file in memory ---------------------------------------------------------------------------

// (name, dtype, shape, bytearray) of every tensor of a file in memory, in the order of the file.
nb::list deserialize(const nb::object& data, bool verify) {
  const BufferArgument buffer(data, BufferUse::read, "bytes");
  const SafetensorsFile file = value_or_raise(
      released([&] { return SafetensorsFile::open_memory(buffer.bytes(), to_verify(verify)); }));
  nb::list result;
  std::vector<std::span<std::byte>> outputs;
  for (const TensorInfo& info : file.checkpoint().tensors()) {
    nb::object bytes =
        nb::steal(PyByteArray_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(info.nbytes)));
    if (!bytes.is_valid()) throw nb::python_error();
    outputs.emplace_back(reinterpret_cast<std::byte*>(PyByteArray_AsString(bytes.ptr())),
                         static_cast<std::size_t>(info.nbytes));
    result.append(nb::make_tuple(text(info.name), text(name(info.dtype)), shape_of(info), bytes));
  }
  interruptible(
      [&](const ProgressCallback& progress) { return file.read_into(outputs, progress); });
  return result;
}

}  // namespace

void bind_safetensors(nb::module_& module) {
  nb::class_<Memory>(module, "SafetensorsMemory", nb::type_slots(kMemorySlots),
                     "Bytes of a tensor; a writable buffer. What is written never reaches a file.");
  nb::class_<VerifiedFiles>(module, "VerifiedFiles",
                            "What has been verified of which files, by identity and change time.")
      .def(nb::init<>())
      .def("__len__", &VerifiedFiles::size)
      .def("clear", &VerifiedFiles::clear, "Forgets everything.");
  nb::class_<FileObject>(module, "SafetensorsFile",
                         "An opened safetensors file, as ``flatbed.safetensors`` reads it.")
      .def_static("open", &open_file, nb::arg("path"), nb::arg("verify"), nb::arg("known"),
                  nb::sig("def open(path: str | os.PathLike[str], verify: bool, "
                          "known: VerifiedFiles) -> SafetensorsFile"),
                  "Opens `path`; `known` says what need not be hashed again.")
      .def("keys", &keys, nb::sig("def keys(self) -> list[str]"),
           "The names of the tensors, sorted.")
      .def("offset_keys", &offset_keys, nb::sig("def offset_keys(self) -> list[str]"),
           "The names of the tensors, in the order of the file.")
      .def("metadata", &metadata, nb::sig("def metadata(self) -> dict[str, str] | None"),
           "Metadata without flatbed's own keys; None if there is none.")
      .def("find", &find, nb::arg("name"),
           nb::sig("def find(self, name: str) -> tuple[int, str, list[int], int] | None"),
           "(index, dtype, shape, nbytes) of the tensor of this name, or None.")
      .def("check", &check, nb::arg("tensor"), nb::arg("begin"), nb::arg("end"),
           "Verifies the chunks under bytes [begin, end) of a tensor, once.")
      .def("view", &view, nb::arg("tensor"), "A tensor's bytes in place, verified.")
      .def("view_unchecked", &view_unchecked, nb::arg("tensor"),
           "A tensor's bytes in place; check() what is used.")
      .def("read", &read, nb::arg("tensor"), nb::arg("begin"), nb::arg("nbytes"),
           "Bytes of a tensor in memory of their own, hashed while they are read.")
      .def("all", &all, nb::arg("copy"),
           nb::sig(
               "def all(self, copy: bool) -> list[tuple[str, str, list[int], SafetensorsMemory]]"),
           "(name, dtype, shape, memory) of every tensor, verified, in the order of the file.");
  module.def("safetensors_deserialize", &deserialize, nb::arg("data"), nb::arg("verify"),
             nb::sig("def safetensors_deserialize(data: typing.Any, verify: bool) -> "
                     "list[tuple[str, str, list[int], bytearray]]"),
             "(name, dtype, shape, bytearray) of every tensor of a file in memory.");
}

}  // namespace flatbed::python
