// Whole objects between files and Python: the structure of a checkpoint, loads of many tensors into
// memory of Python, and saves of what Python holds.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include "bindings.hpp"
#include "errors.hpp"
#include "flatbed/load.hpp"
#include "flatbed/match.hpp"
#include "flatbed/private_view.hpp"
#include "flatbed/save.hpp"
#include "flatbed/save_set.hpp"
#include "flatbed/storage_offset.hpp"
#include "gpu.hpp"
#include "objects.hpp"
#include "plan.hpp"
#include "source.hpp"
#include "state_source.hpp"
#include "tree.hpp"
#include "tree_names.hpp"

namespace flatbed::python {

namespace {

using Bytes = std::span<const std::byte>;

Bytes memory_at(std::uint64_t address, std::uint64_t nbytes) {
  if (nbytes == 0) return {};
  return {reinterpret_cast<const std::byte*>(static_cast<std::uintptr_t>(address)),
          static_cast<std::size_t>(nbytes)};
}

std::optional<Dtype> dtype_named(const std::optional<std::string>& text) {
  if (!text) return std::nullopt;
  const std::optional<Dtype> dtype = parse_dtype(*text);
  if (!dtype) throw nb::value_error(("no dtype is named '" + *text + "'").c_str());
  return dtype;
}

nb::tuple shape_tuple(const std::vector<std::uint64_t>& shape) {
  nb::list sizes;
  for (const std::uint64_t size : shape) sizes.append(size);
  return nb::tuple(sizes);
}

// ---- the structure around the tensors -----------------------------------------------------------

nb::object build_tree(const CheckpointObject& self, const nb::object& factory) {
  const Checkpoint checkpoint = self.get();
  return TreeBuilder(value_or_raise(checkpoint.tree()), factory).build();
}

nb::list list_tree_names(const CheckpointObject& self) {
  const Checkpoint checkpoint = self.get();
  nb::list names;
  for (const TreeName& name : tree_names(value_or_raise(checkpoint.tree())))
    names.append(nb::make_tuple(name.what, name.name, name.place));
  return names;
}

nb::list list_tree_tensors(const CheckpointObject& self) {
  const Checkpoint checkpoint = self.get();
  nb::list rows;
  for (const Value tensor : tree_tensors(value_or_raise(checkpoint.tree())))
    rows.append(nb::make_tuple(*tensor.tensor(), attributes_of(tensor)));
  return rows;
}

// Of every tensor: name, dtype, shape, nbytes, its storage, and where it begins in that; None if
// nobody knows.
nb::list tensor_rows(const CheckpointObject& self) {
  const Checkpoint checkpoint = self.get();
  nb::list rows;
  for (const TensorInfo& tensor : checkpoint.tensors())
    rows.append(nb::make_tuple(tensor.name, name(tensor.dtype),
                               shape_tuple({tensor.shape.begin(), tensor.shape.end()}),
                               tensor.nbytes, tensor.storage, storage_offset(checkpoint, tensor)));
  return rows;
}

// ---- loads --------------------------------------------------------------------------------------

// index, address, nbytes, dtype to cast to
using LoadTarget =
    std::tuple<std::uint32_t, std::uint64_t, std::uint64_t, std::optional<std::string>>;

// A GPU for each target, or null for the host's memory; empty: the host for all.
using LoadDevices = std::vector<const CudaDeviceObject*>;

Result<LoadPlan> plan_targets(const Checkpoint& checkpoint, const std::vector<LoadTarget>& targets,
                              const std::vector<std::optional<Dtype>>& casts,
                              const LoadDevices& devices) {
  LoadPlan plan;
  for (std::size_t i = 0; i < targets.size(); ++i) {
    const auto& [index, address, nbytes, name] = targets[i];
    void* const data = reinterpret_cast<void*>(static_cast<std::uintptr_t>(address));
    const CudaDeviceObject* const gpu = devices.empty() ? nullptr : devices[i];
    Device* const device = gpu == nullptr ? nullptr : gpu->device.get();
    FLATBED_TRY(plan.add(checkpoint, checkpoint.tensors()[index].name,
                         {.device = device, .data = data, .capacity = nbytes}, {.as = casts[i]}));
  }
  return plan;
}

Result<LoadReport> load_targets(const Result<LoadPlan>& plan, const LoadOptions& options) {
  if (!plan) return plan.error();
  return load(*plan, options);
}

nb::dict load_tensors(const CheckpointObject& self, const std::vector<LoadTarget>& targets,
                      bool verify, unsigned threads, const nb::object& progress,
                      const LoadDevices& devices) {
  const Checkpoint checkpoint = self.get();
  if (!devices.empty() && devices.size() != targets.size())
    throw nb::value_error("devices: expected one for each target, or none");
  std::vector<std::optional<Dtype>> casts;
  for (const LoadTarget& target : targets) {
    if (std::get<0>(target) >= checkpoint.tensors().size())
      throw nb::index_error("no tensor has this index");
    casts.push_back(dtype_named(std::get<3>(target)));
  }
  Interruptible work(progress);
  LoadOptions options{.verify = verify ? Verify::yes : Verify::no, .threads = threads};
  options.progress = work.progress();
  const LoadReport report = work.run(
      [&] { return load_targets(plan_targets(checkpoint, targets, casts, devices), options); });
  nb::dict result;
  result["bytes_read"] = report.bytes_read;
  result["bytes_verified"] = report.bytes_verified;
  result["threads"] = report.threads;
  result["seconds"] = report.seconds;
  return result;
}

// The bytes of one tensor as a writable buffer, which the file never sees (private_view.hpp).
struct MemoryObject {
  PrivateView view;
};

std::unique_ptr<MemoryObject> map_tensor(const CheckpointObject& self, std::uint32_t index) {
  const Checkpoint checkpoint = self.get();
  if (index >= checkpoint.tensors().size()) throw nb::index_error("no tensor has this index");
  const TensorInfo& tensor = checkpoint.tensors()[index];
  return std::make_unique<MemoryObject>(
      value_or_raise(released([&] { return PrivateView::make(checkpoint, tensor); })));
}

int get_memory(PyObject* self, Py_buffer* buffer, int flags) {
  const std::span<std::byte> bytes = nb::inst_ptr<MemoryObject>(nb::handle(self))->view.bytes();
  return PyBuffer_FillInfo(buffer, self, bytes.data(), static_cast<Py_ssize_t>(bytes.size()), 0,
                           flags);
}

PyType_Slot memory_slots[] = {{Py_bf_getbuffer, reinterpret_cast<void*>(&get_memory)},
                              {0, nullptr}};

// ---- matching -----------------------------------------------------------------------------------

// name, shape, dtype, other names
using ExpectedRow = std::tuple<std::string, std::vector<std::uint64_t>, std::optional<std::string>,
                               std::vector<std::string>>;

nb::dict match_names(const CheckpointObject& self, const std::vector<ExpectedRow>& rows,
                     bool ignore_mismatched_sizes) {
  const Checkpoint checkpoint = self.get();
  std::vector<Expected> expected;
  for (const auto& [name, shape, dtype, others] : rows)
    expected.push_back({name, shape, dtype_named(dtype), others});
  const MatchOptions options{.ignore_mismatched_sizes = ignore_mismatched_sizes};
  const MatchReport report =
      value_or_raise(released([&] { return match(checkpoint, expected, options); }));
  nb::list matched;
  for (const MatchedPair& pair : report.matched)
    matched.append(nb::make_tuple(pair.expected, pair.tensor));
  nb::list mismatched;
  for (const Mismatch& one : report.mismatched)
    mismatched.append(
        nb::make_tuple(one.name, shape_tuple(one.shape),
                       shape_tuple(one.expected_shape.value_or(std::vector<std::uint64_t>()))));
  nb::dict result;
  result["matched"] = matched;
  result["mismatched"] = mismatched;
  result["missing_keys"] = nb::cast(report.missing_keys);
  result["unexpected_keys"] = nb::cast(report.unexpected_keys);
  result["suggestion"] =
      report.suggested ? nb::object(nb::cast(report.suggested->reason)) : nb::none();
  return result;
}

// ---- saves --------------------------------------------------------------------------------------

// count, address, nbytes
using StorageRow = std::tuple<std::uint64_t, std::uint64_t, std::uint64_t>;

// Tensors that lie in memory as they are written need no reader.
Result<SavePlan> plan_source(const std::shared_ptr<const StateSource>& source) {
  FLATBED_ASSIGN(const Checkpoint checkpoint, Checkpoint::open(source));
  FLATBED_ASSIGN(SavePlan plan, make_plan(checkpoint));
  for (SaveItem& item : plan.items) {
    const TensorInfo& tensor = checkpoint.tensors()[std::get<TensorRef>(item.from).tensor];
    if (tensor.stored != Stored::plain) continue;
    const Bytes bytes = source->find(tensor.where.offset, tensor.where.nbytes);
    if (bytes.size() == tensor.nbytes && !bytes.empty()) item.from = bytes;
  }
  return plan;
}

std::unique_ptr<PlanObject> plan_state(const nb::bytes& head,
                                       const std::vector<StorageRow>& storages, std::string label,
                                       nb::object keep) {
  std::vector<StateStorage> parts;
  for (const auto& [count, address, nbytes] : storages)
    parts.push_back({count, memory_at(address, nbytes)});
  const auto source = std::make_shared<const StateSource>(
      std::move(label), std::string(head.c_str(), head.size()), parts);
  auto made = std::make_unique<PlanObject>();
  made->plan = value_or_raise(released([&] { return plan_source(source); }));
  made->keep = std::move(keep);
  return made;
}

// name, dtype, shape, address, nbytes
using TensorRow =
    std::tuple<std::string, std::string, std::vector<std::uint64_t>, std::uint64_t, std::uint64_t>;

std::unique_ptr<PlanObject> plan_tensors(const std::vector<TensorRow>& rows, nb::object keep) {
  auto made = std::make_unique<PlanObject>();
  for (const auto& [name, dtype, shape, address, nbytes] : rows)
    made->plan.items.push_back({name, *dtype_named(dtype), shape, memory_at(address, nbytes)});
  made->keep = std::move(keep);
  return made;
}

// Reads what does not lie in memory as it is written, such as the values of strided tensors.
Result<void> gather(PlanObject& self) {
  for (SaveItem& item : self.plan.items) {
    const TensorRef* const ref = std::get_if<TensorRef>(&item.from);
    if (ref == nullptr) continue;
    const TensorInfo& tensor = ref->checkpoint.tensors()[ref->tensor];
    std::vector<std::byte>& copy =
        self.copies.emplace_back(static_cast<std::size_t>(tensor.nbytes));
    FLATBED_TRY(ref->checkpoint.read(tensor, 0, copy));
    item.from = Bytes(copy);
  }
  return {};
}

// Gives the plan memory of its own, which nobody else writes.
Result<void> detach(PlanObject& self) {
  for (SaveItem& item : self.plan.items) {
    const Bytes* const bytes = std::get_if<Bytes>(&item.from);
    if (bytes == nullptr) continue;
    const std::vector<std::byte>& copy = self.copies.emplace_back(bytes->begin(), bytes->end());
    item.from = Bytes(copy);
  }
  return gather(self);  // copies the others
}

void detach_plan(PlanObject& self) {
  value_or_raise(released([&] { return detach(self); }));
  self.keep = nb::none();
}

void gather_plan(PlanObject& self) {
  value_or_raise(released([&] { return gather(self); }));
}

struct SaveRequest {
  std::filesystem::path path;
  std::optional<std::uint64_t> max_shard_nbytes;
  SaveOptions options;
};

Result<SaveReport> save_request(const SavePlan& plan, const SaveRequest& request) {
  if (!request.max_shard_nbytes) return save(request.path, plan, request.options);
  SaveSetOptions options{.max_shard_nbytes = *request.max_shard_nbytes,
                         .replace = request.options.replace,
                         .file = request.options};
  FLATBED_ASSIGN(SaveSetReport report, save_set(request.path, plan, options));
  return std::move(report.files);
}

nb::dict save_plan(PlanObject& self, const nb::handle& path, bool seal, bool replace, bool sync,
                   std::optional<std::uint64_t> max_shard_nbytes,
                   const std::vector<std::pair<std::string, std::string>>& metadata,
                   const nb::object& progress) {
  Interruptible work(progress);
  SaveRequest request{
      .path = path_argument(path, "path"), .max_shard_nbytes = max_shard_nbytes, .options = {}};
  request.options.seal = seal;
  request.options.replace = replace;
  request.options.sync = sync;
  request.options.progress = work.progress();
  SavePlan plan = self.plan;
  plan.metadata.insert(plan.metadata.end(), metadata.begin(), metadata.end());
  const SaveReport report = work.run([&] { return save_request(plan, request); });
  nb::dict result;
  result["nbytes"] = report.nbytes;
  result["content"] = report.content;
  result["durable"] = report.durability == Durability::committed;
  result["note"] = report.durability_note;
  return result;
}

nb::list plan_notes(const PlanObject& self) {
  nb::list notes;
  for (const Checkpoint& source : self.plan.sources) {
    for (const std::string& note : source.notes()) notes.append(note);
  }
  return notes;
}

std::uint64_t plan_nbytes(const PlanObject& self) {
  std::uint64_t nbytes = 0;
  for (const SaveItem& item : self.plan.items) {
    if (const Bytes* const bytes = std::get_if<Bytes>(&item.from)) nbytes += bytes->size();
  }
  return nbytes;
}

void bind_loads(nb::module_& module) {
  module.def(
      "check_expansion",
      [](const CheckpointObject& self) { value_or_raise(check_expansion(self.get())); },
      nb::arg("checkpoint"), "Raises what a load of all tensors does if they are too large.");
  module.def("build_tree", &build_tree, nb::arg("checkpoint"), nb::arg("factory"),
             nb::sig("def build_tree(checkpoint: Checkpoint, factory: object) -> typing.Any"));
  module.def("tree_names", &list_tree_names, nb::arg("checkpoint"),
             nb::sig("def tree_names(checkpoint: Checkpoint) -> list[tuple[str, str, str]]"));
  module.def("tensor_rows", &tensor_rows, nb::arg("checkpoint"),
             nb::sig("def tensor_rows(checkpoint: Checkpoint) -> "
                     "list[tuple[str, str, tuple[int, ...], int, int, int | None]]"));
  module.def("tree_tensors", &list_tree_tensors, nb::arg("checkpoint"),
             nb::sig("def tree_tensors(checkpoint: Checkpoint) -> "
                     "list[tuple[int, dict[str, typing.Any]]]"));
  module.def(
      "load_tensors", &load_tensors, nb::arg("checkpoint"), nb::arg("targets"),
      nb::arg("verify") = true, nb::arg("threads") = 0, nb::arg("progress") = nb::none(),
      nb::arg("devices") = LoadDevices(),
      nb::sig(
          "def load_tensors(checkpoint: Checkpoint, "
          "targets: collections.abc.Sequence[tuple[int, int, int, str | None]], "
          "verify: bool = True, threads: int = 0, "
          "progress: flatbed._types.Progress = None, "
          "devices: collections.abc.Sequence[CudaDevice | None] = ()) -> dict[str, typing.Any]"));
  module.def("match_names", &match_names, nb::arg("checkpoint"), nb::arg("expected"),
             nb::arg("ignore_mismatched_sizes") = false,
             nb::sig("def match_names(checkpoint: Checkpoint, "
                     "expected: collections.abc.Sequence[tuple[str, "
                     "collections.abc.Sequence[int], str | None, collections.abc.Sequence[str]]], "
                     "ignore_mismatched_sizes: bool = False) -> dict[str, typing.Any]"));
  nb::class_<MemoryObject>(module, "Memory", nb::type_slots(memory_slots),
                           "The bytes of a tensor, mapped copy on write where that is possible.");
  module.def("map_tensor", &map_tensor, nb::arg("checkpoint"), nb::arg("index"));
}

void bind_saves(nb::module_& module) {
  nb::class_<PlanObject>(module, "Plan", "What a file shall hold.")
      .def("__len__", [](const PlanObject& self) { return self.plan.items.size(); })
      .def_prop_ro("nbytes", &plan_nbytes)
      .def_prop_ro("notes", &plan_notes, nb::sig("def notes(self, /) -> list[str]"))
      .def("gather", &gather_plan, "Copies what does not lie in memory as it is written.")
      .def("detach", &detach_plan, "Copies what the plan borrows.");
  module.def("plan_state", &plan_state, nb::arg("head"), nb::arg("storages"), nb::arg("label"),
             nb::arg("keep"));
  module.def("plan_tensors", &plan_tensors, nb::arg("tensors"), nb::arg("keep"));
  module.def("save_plan", &save_plan, nb::arg("plan"), nb::arg("path"), nb::kw_only(),
             nb::arg("seal") = true, nb::arg("replace") = true, nb::arg("sync") = true,
             nb::arg("max_shard_nbytes") = nb::none(),
             nb::arg("metadata") = std::vector<std::pair<std::string, std::string>>(),
             nb::arg("progress") = nb::none(),
             nb::sig("def save_plan(plan: Plan, path: flatbed._types.Path, *, seal: bool = True, "
                     "replace: bool = True, sync: bool = True, "
                     "max_shard_nbytes: int | None = None, "
                     "metadata: collections.abc.Sequence[tuple[str, str]] = (), "
                     "progress: flatbed._types.Progress = None) -> dict[str, typing.Any]"));
}

}  // namespace

void bind_state(nb::module_& module) {
  bind_loads(module);
  bind_saves(module);
}

}  // namespace flatbed::python
