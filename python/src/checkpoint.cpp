// flatbed.Checkpoint and flatbed.open()
#include <nanobind/stl/filesystem.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/unique_ptr.h>

#include <filesystem>
#include <memory>
#include <string_view>

#include "bindings.hpp"
#include "errors.hpp"
#include "objects.hpp"

namespace flatbed::python {

namespace {

std::unique_ptr<CheckpointObject> open_path(const std::filesystem::path& path) {
  return std::make_unique<CheckpointObject>(
      value_or_raise(released([&] { return Checkpoint::open(path); })));
}

std::unique_ptr<TensorObject> get_item(const CheckpointObject& self, std::string_view name) {
  Checkpoint checkpoint = self.get();
  const TensorInfo info = value_or_raise(checkpoint.tensor(name));
  return std::make_unique<TensorObject>(std::move(checkpoint), info);
}

nb::list names(const CheckpointObject& self) {
  const Checkpoint checkpoint = self.get();
  nb::list names;
  for (const TensorInfo& tensor : checkpoint.tensors()) names.append(tensor.name);
  return names;
}

}  // namespace

Checkpoint CheckpointObject::get() const {
  const std::lock_guard lock(mutex_);
  if (!checkpoint_) throw nb::value_error("the checkpoint is closed");
  return *checkpoint_;
}

void CheckpointObject::close() {
  std::optional<Checkpoint> last;
  const std::lock_guard lock(mutex_);
  checkpoint_.swap(last);
}

bool CheckpointObject::is_closed() const {
  const std::lock_guard lock(mutex_);
  return !checkpoint_;
}

void bind_checkpoint(nb::module_& module) {
  nb::class_<CheckpointObject>(module, "Checkpoint", "An opened checkpoint.")
      .def("__getitem__", &get_item, nb::arg("name"))
      .def("__len__",
           [](const CheckpointObject& self) {
             const Checkpoint checkpoint = self.get();
             return checkpoint.tensors().size();
           })
      .def("__iter__", [](const CheckpointObject& self) { return nb::iter(names(self)); })
      .def("__contains__",
           [](const CheckpointObject& self, std::string_view name) {
             const Checkpoint checkpoint = self.get();
             return checkpoint.find(name) != nullptr;
           })
      .def("close", &CheckpointObject::close);
  module.def("open", &open_path, nb::arg("source"));
}

}  // namespace flatbed::python
