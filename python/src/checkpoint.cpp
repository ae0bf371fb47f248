// flatbed.Checkpoint and flatbed.open(): a Mapping of names to Tensors, and views of it.
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bindings.hpp"
#include "errors.hpp"
#include "key_rules.hpp"
#include "objects.hpp"
#include "reports.hpp"
#include "source.hpp"

namespace flatbed::python {

namespace {

constexpr std::array kLayoutNames{"safetensors", "torch_zip",    "torch_legacy",
                                  "torch_tar",   "torch_pickle", "torch_script"};
static_assert(kLayoutNames.size() == static_cast<std::size_t>(Layout::torch_script) + 1);

using Opened = std::unique_ptr<CheckpointObject>;
using Globs = std::vector<std::string>;

Opened opened(Checkpoint checkpoint) {
  return std::make_unique<CheckpointObject>(std::move(checkpoint));
}

CheckSeal parse_check_seal(std::string_view text) {
  if (text == "if_sealed") return CheckSeal::if_sealed;
  if (text == "required") return CheckSeal::required;
  if (text == "off") return CheckSeal::off;
  throw nb::value_error("check_seal: expected 'if_sealed', 'required' or 'off'");
}

Opened open(const nb::handle& source, std::string_view check_seal, bool follow_links,
            std::string label, nb::object storage_options) {
  return opened(open_source(source, {{parse_check_seal(check_seal), follow_links},
                                     std::move(label),
                                     std::move(storage_options)}));
}

// ---- the mapping --------------------------------------------------------------------------------

std::unique_ptr<TensorObject> make_tensor(Checkpoint checkpoint, const TensorInfo& info) {
  return std::make_unique<TensorObject>(std::move(checkpoint), info);
}

std::unique_ptr<TensorObject> get_item(const CheckpointObject& self, std::string_view name) {
  Checkpoint checkpoint = self.get();
  const TensorInfo info = value_or_raise(checkpoint.tensor(name));
  return make_tensor(std::move(checkpoint), info);
}

nb::object get(const CheckpointObject& self, const nb::handle& name, const nb::object& otherwise) {
  Checkpoint checkpoint = self.get();
  std::string_view text;
  const TensorInfo* info = nb::try_cast(name, text) ? checkpoint.find(text) : nullptr;
  if (info == nullptr) return otherwise;
  return nb::cast(make_tensor(std::move(checkpoint), *info));
}

bool contains(const CheckpointObject& self, const nb::handle& name) {
  const Checkpoint checkpoint = self.get();
  std::string_view text;
  return nb::try_cast(name, text) && checkpoint.find(text) != nullptr;
}

nb::list names(const Checkpoint& checkpoint) {
  nb::list names;
  for (const TensorInfo& tensor : checkpoint.tensors()) names.append(tensor.name);
  return names;
}

std::size_t length(const CheckpointObject& self) {
  const Checkpoint checkpoint = self.get();
  return checkpoint.tensors().size();
}

// The views of collections.abc, which know a mapping by its own members.
nb::object abc_view(const char* kind, const nb::handle& self) {
  static_cast<void>(nb::cast<const CheckpointObject&>(self).get());  // closed ones have no views
  return call_python(import_python("collections.abc", kind), self);
}

// ---- what is known about the files --------------------------------------------------------------

nb::dict metadata(const CheckpointObject& self) {
  const Checkpoint checkpoint = self.get();
  nb::dict pairs;
  for (const auto& [key, value] : checkpoint.metadata()) pairs[nb::cast(key)] = nb::cast(value);
  return pairs;
}

nb::dict aliases(const CheckpointObject& self) {
  const Checkpoint checkpoint = self.get();
  nb::dict pairs;
  for (const Alias& alias : checkpoint.aliases())
    pairs[nb::cast(alias.name)] = nb::cast(alias.target);
  return pairs;
}

nb::list notes(const CheckpointObject& self) {
  const Checkpoint checkpoint = self.get();
  nb::list notes;
  for (const std::string& note : checkpoint.notes()) notes.append(note);
  return notes;
}

nb::list files(const CheckpointObject& self) {
  const Checkpoint checkpoint = self.get();
  nb::list files;
  for (const FileInfo& file : checkpoint.files()) files.append(to_python(file));
  return files;
}

nb::object repr(const CheckpointObject& self) {
  if (self.is_closed()) return nb::str("<flatbed.Checkpoint, closed>");
  const Checkpoint checkpoint = self.get();
  return nb::str("<flatbed.Checkpoint {!r}: {} tensors, {}>")
      .attr("format")(to_python(checkpoint.files().front()).attr("path"),
                      checkpoint.tensors().size(), name(checkpoint.seal()));
}

// ---- views --------------------------------------------------------------------------------------

Opened select(const CheckpointObject& self, std::string path, Globs include, Globs exclude,
              bool state_dict) {
  const Checkpoint checkpoint = self.get();
  const Selection selection{std::move(path), std::move(include), std::move(exclude), state_dict};
  return opened(value_or_raise(released([&] { return checkpoint.select(selection); })));
}

Opened rename(const CheckpointObject& self, const nb::handle& rules,
              const std::string& strip_prefix, const std::string& add_prefix) {
  const Checkpoint checkpoint = self.get();
  KeyRules map(rules);
  if (!strip_prefix.empty()) map.strip_prefix(strip_prefix);
  if (!add_prefix.empty()) map.add_prefix(add_prefix);
  return opened(map.run([&] { return checkpoint.rename(map.map()); }));
}

Opened cast(const CheckpointObject& self, const nb::handle& dtype, Globs include, Globs keep) {
  const Checkpoint checkpoint = self.get();
  const nb::object to = call_python(import_python("flatbed._dtypes", "dtype_name"), dtype);
  const CastRules rules{*parse_dtype(nb::cast<std::string_view>(to)), std::move(include),
                        std::move(keep)};
  return opened(value_or_raise(released([&] { return checkpoint.cast(rules); })));
}

// ---- bindings -----------------------------------------------------------------------------------

void bind_mapping(nb::class_<CheckpointObject>& checkpoint) {
  checkpoint
      .def("__getitem__", &get_item, nb::arg("name"),
           R"(The tensor of this name or alias.

Raises:
    TensorNotFoundError: a KeyError that names the closest name.)")
      .def("__contains__", &contains, nb::arg("name"),
           nb::sig("def __contains__(self, name: object) -> bool"),
           "Whether a tensor has this name or alias.")
      .def("__len__", &length, "The number of tensors.")
      .def(
          "__iter__", [](const CheckpointObject& self) { return nb::iter(names(self.get())); },
          nb::sig("def __iter__(self) -> collections.abc.Iterator[str]"),
          "The tensors' names, in the order of the file; aliases are not among them.")
      .def("get", &get, nb::arg("name"), nb::arg("default") = nb::none(),
           nb::sig("def get(self, name: str, default: typing.Any = None) -> typing.Any"),
           "The tensor of this name or alias, or ``default``.")
      .def(
          "keys", [](const nb::handle& self) { return abc_view("KeysView", self); },
          nb::sig("def keys(self) -> collections.abc.KeysView[str]"), "The tensors' names.")
      .def(
          "values", [](const nb::handle& self) { return abc_view("ValuesView", self); },
          nb::sig("def values(self) -> collections.abc.ValuesView[Tensor]"), "The tensors.")
      .def(
          "items", [](const nb::handle& self) { return abc_view("ItemsView", self); },
          nb::sig("def items(self) -> collections.abc.ItemsView[str, Tensor]"),
          "Pairs of names and tensors.");
}

void bind_facts(nb::class_<CheckpointObject>& checkpoint) {
  checkpoint
      .def_prop_ro(
          "seal", [](const CheckpointObject& self) { return name(self.get().seal()); },
          "``'unsealed'``, ``'sealed'``, ``'annotated'`` (the content matches, other\n"
          "metadata was changed after sealing), ``'newer'`` or ``'broken'`` (only with\n"
          "``check_seal='off'``). A set is sealed only if every shard is.")
      .def_prop_ro(
          "layout",
          [](const CheckpointObject& self) {
            return kLayoutNames[static_cast<std::size_t>(self.get().layout())];
          },
          "``'safetensors'``, ``'torch_zip'``, ``'torch_legacy'``, ``'torch_tar'``,\n"
          "``'torch_pickle'`` or ``'torch_script'``; of a set, that of its first shard.")
      .def_prop_ro("metadata", &metadata, nb::sig("def metadata(self, /) -> dict[str, str]"),
                   "The metadata of the (first) file, flatbed's own keys included.")
      .def_prop_ro("aliases", &aliases, nb::sig("def aliases(self, /) -> dict[str, str]"),
                   "Other names of tensors, each with the tensor's own.")
      .def_prop_ro("notes", &notes, nb::sig("def notes(self, /) -> list[str]"),
                   "What a user should know: unlisted tensors, dropped hooks. One sentence each.")
      .def_prop_ro("files", &files, nb::sig("def files(self, /) -> list[flatbed.reports.FileInfo]"),
                   "The file, or every shard.")
      .def_prop_ro(
          "has_tree", [](const CheckpointObject& self) { return self.get().has_tree(); },
          "Whether the file records the structure around the tensors.")
      .def_prop_ro(
          "tree",
          [](const nb::handle& self) {
            return call_python(import_python("flatbed._tree", "tree_of"), self);
          },
          nb::sig("def tree(self, /) -> typing.Any"),
          "The structure around the tensors, as Python had it: dicts, lists, numbers and texts,\n"
          "with Tensors in their places. Objects of classes that flatbed does not know are\n"
          "``flatbed.inert.Object``: nothing is imported or called. Built anew on each call.\n\n"
          "Raises:\n"
          "    FormatError: the file's structure is malformed; its tensors can be read.");
}

void bind_views(nb::class_<CheckpointObject>& checkpoint) {
  checkpoint
      .def("select", &select, nb::arg("path") = "", nb::kw_only(), nb::arg("include") = Globs(),
           nb::arg("exclude") = Globs(), nb::arg("state_dict") = false,
           nb::sig("def select(self, path: str = '', *, "
                   "include: collections.abc.Sequence[str] = (), "
                   "exclude: collections.abc.Sequence[str] = (), "
                   "state_dict: bool = False) -> Checkpoint"),
           R"(A part of the checkpoint: the subtree at a dotted ``path``, which names lose, and of
it the tensors that a glob of ``include`` and none of ``exclude`` matches (``*``, ``?``, ``[...]``).
With ``state_dict``, a whole pickled model there is what its ``state_dict()`` returns.

Raises:
    Error: there is no such path (``path_not_found``).)")
      .def("rename", &rename, nb::arg("rules") = nb::none(), nb::kw_only(),
           nb::arg("strip_prefix") = "", nb::arg("add_prefix") = "",
           nb::sig("def rename(self, rules: flatbed._types.RenameRules = None, *, "
                   "strip_prefix: str = '', add_prefix: str = '') -> Checkpoint"),
           R"(The same tensors under other names: ``{"h.*.attn": "layers.{1}.attention"}``.

``rules`` is a dict of globs over whole names to new names, in which ``{1}`` is what the first
wildcard took; a text with one rule ``OLD=NEW`` or ``NEW = cat(OLD, OLD, dim=0)`` a line; a
callable that takes a name and returns one; or a list of these. ``strip_prefix`` and ``add_prefix``
come after them. Rules run in order, each on every name.

Raises:
    Error: a rule is malformed or matches no name, or two names become one.)")
      .def(
          "cast", &cast, nb::arg("dtype"), nb::kw_only(), nb::arg("include") = Globs(),
          nb::arg("keep") = Globs(),
          nb::sig("def cast(self, dtype: typing.Any, *, "
                  "include: collections.abc.Sequence[str] = (), "
                  "keep: collections.abc.Sequence[str] = ()) -> Checkpoint"),
          R"(The same checkpoint with its tensors of floats as ``dtype``: ``'BF16'``, ``'bfloat16'``
or ``torch.bfloat16``, and likewise for floats of 64, 32, 16 and 8 bits. Values are rounded, as
PyTorch rounds them, when they are read.

``include`` and ``keep`` are globs over names: what is cast (default: every float), and what stays.

Raises:
    TypeError, ValueError: ``dtype`` is no dtype.
    Error: it cannot be cast to, or a glob matches no name.)")
      .def(
          "verify",
          [](const nb::handle& self, unsigned threads, const nb::object& progress) {
            nb::dict options;
            options["threads"] = threads;
            options["progress"] = progress;
            return call_python(import_python("flatbed", "verify"), nb::make_tuple(self), options);
          },
          nb::kw_only(), nb::arg("threads") = 2, nb::arg("progress") = nb::none(),
          nb::sig("def verify(self, *, threads: int = 2, "
                  "progress: flatbed._types.Progress = None) -> flatbed.reports.VerifyReport"),
          "Reads every byte and compares it with the seal: see ``flatbed.verify()``.");
}

void bind_lifetime(nb::class_<CheckpointObject>& checkpoint) {
  checkpoint
      .def("close", &CheckpointObject::close,
           "Ends the use of this object; Tensors and views that were taken from it stay valid.\n"
           "The file is closed when the last of them is gone.")
      .def_prop_ro("closed", &CheckpointObject::is_closed, "Whether ``close()`` was called.")
      .def(
          "__enter__", [](const nb::object& self) { return self; },
          nb::sig("def __enter__(self) -> Checkpoint"))
      .def(
          "__exit__", [](CheckpointObject& self, const nb::args&) { self.close(); },
          nb::sig("def __exit__(self, *args: object) -> None"))
      .def("__repr__", &repr, nb::sig("def __repr__(self) -> str"))
      .def(
          "__reduce__",
          [](const CheckpointObject&) {
            nb::raise_type_error(
                "cannot pickle a flatbed.Checkpoint: it is an open file; pickle its path");
          },
          nb::sig("def __reduce__(self) -> typing.NoReturn"));
}

}  // namespace

Checkpoint CheckpointObject::get() const {
  const std::lock_guard lock(mutex_);
  if (!checkpoint_) throw nb::value_error("the checkpoint is closed");
  return *checkpoint_;
}

void CheckpointObject::close() {
  std::optional<Checkpoint> last;  // ends after the lock does
  const std::lock_guard lock(mutex_);
  checkpoint_.swap(last);
}

bool CheckpointObject::is_closed() const {
  const std::lock_guard lock(mutex_);
  return !checkpoint_;
}

void bind_checkpoint(nb::module_& module) {
  nb::class_<CheckpointObject> checkpoint(
      module, "Checkpoint", nb::is_weak_referenceable(),
      nb::sig("class Checkpoint(collections.abc.Mapping[str, Tensor])"),
      R"(An opened model file: a Mapping of names to Tensors.

Opening reads only what describes the tensors. Views (``select()``, ``rename()``, ``cast()``) are
checkpoints, too, and read nothing. A Checkpoint is a context manager; without one, its file is
closed with the last object that was taken from it. All members may be called from several threads
at once, and after ``os.fork()`` in the child as well. It cannot be pickled.)");
  bind_mapping(checkpoint);
  bind_facts(checkpoint);
  bind_views(checkpoint);
  bind_lifetime(checkpoint);
  module.def("open", &open, nb::arg("source"), nb::kw_only(), nb::arg("check_seal") = "if_sealed",
             nb::arg("follow_links") = true, nb::arg("label") = "",
             nb::arg("storage_options") = nb::none(),
             nb::sig("def open(source: flatbed._types.Source, *, "
                     "check_seal: typing.Literal['if_sealed', 'required', 'off'] = 'if_sealed', "
                     "follow_links: bool = True, label: str = '', "
                     "storage_options: flatbed._types.StorageOptions = None) -> Checkpoint"),
             R"(Opens a model file of any kind; its content decides, not its name.

``source`` is a path (a .safetensors or PyTorch file, an index, or a folder with one model), bytes
in memory (kept until the last view is gone; they must not change), a descriptor or an open file
(which may be closed afterwards), a list of shards: paths or bytes, or where flatbed was built with
its component remote, a URL: http(s)://, hf://owner/name@revision or s3://bucket/key.

``check_seal``: ``'if_sealed'`` refuses files whose seal does not match, ``'required'`` also those
without one, ``'off'`` neither. ``follow_links``: whether the shards of a set may be symbolic
links. ``label`` stands for the path of what has none in messages.

``storage_options`` of a URL: ``token`` (a bearer token), ``headers`` (a dict), ``access_key_id``,
``secret_access_key``, ``session_token``, ``endpoint`` and ``region`` (s3://), ``hub_endpoint``
(hf://), ``ca_file`` (certificates to trust besides the system's), ``cache`` (a folder that keeps
blocks of files) and ``cache_nbytes``, ``proxy``, ``http_proxy`` (of http:// URLs, if it is
another), ``no_proxy`` (hosts that are reached without one), ``retries``, and ``credentials``: a
callable that gets the origin and whether the server refused the last ones, and returns a dict of
the first five; it may be called from several threads. Nothing is read from environment variables,
and redirects to other hosts get no credentials.

Raises:
    FileError: the file is not there, or cannot be read.
    FormatError: it is no model file, or a malformed one. SealError: its seal does not match.
    TypeError, ValueError: ``source`` is nothing of the above, or a closed file.)");
}

}  // namespace flatbed::python
