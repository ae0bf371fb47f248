// What commands.py calls: verify, convert, scan, diff and match. It is called with checkpoints that
// are open and arguments that are complete.
#include <nanobind/stl/filesystem.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "bindings.hpp"
#include "errors.hpp"
#include "flatbed/save.hpp"
#include "flatbed/save_set.hpp"
#include "flatbed/save_torch.hpp"
#include "objects.hpp"
#include "remote.hpp"
#include "reports.hpp"
#include "source.hpp"

namespace flatbed::python {

namespace {

nb::object verify_checkpoint(const CheckpointObject& source, unsigned threads,
                             const nb::object& progress) {
  const Checkpoint checkpoint = source.get();
  Interruptible work(progress);
  const VerifyOptions options{.threads = threads, .progress = work.progress()};
  return to_python(work.run([&] { return verify(checkpoint, options); }), checkpoint);
}

nb::object diff_checkpoints(const CheckpointObject& a, const CheckpointObject& b, bool values,
                            unsigned threads, const nb::object& progress) {
  const Checkpoint before = a.get();
  const Checkpoint after = b.get();
  Interruptible work(progress);
  const DiffOptions options{.values = values, .threads = threads, .progress = work.progress()};
  return to_python(work.run([&] { return diff(before, after, options); }));
}

nb::object scan_path(const nb::handle& path, bool recursive, const nb::object& storage_options) {
  if (is_url(path)) return to_python(scan_url(path, storage_options));
  const std::filesystem::path where = path_argument(path, "path");
  return to_python(Interruptible::run_cancellable([&](const std::atomic<bool>& cancel) {
    return scan(where, {.cancel = &cancel, .recursive = recursive});
  }));
}

MatchOptions match_options(bool torch, bool exact_dtypes, bool ignore_mismatched_sizes) {
  return {.meaning = torch ? MatchMeaning::torch : MatchMeaning::checkpoint,
          .dtypes = exact_dtypes ? DtypePolicy::exact : DtypePolicy::cast,
          .ignore_mismatched_sizes = ignore_mismatched_sizes};
}

// `expected`: a Checkpoint, or expectations as JSON.
nb::object match_checkpoint(const CheckpointObject& source, const nb::handle& expected, bool torch,
                            bool exact_dtypes, bool ignore_mismatched_sizes) {
  const Checkpoint checkpoint = source.get();
  const MatchOptions options = match_options(torch, exact_dtypes, ignore_mismatched_sizes);
  std::vector<Expected> wanted;
  if (nb::isinstance<CheckpointObject>(expected)) {
    wanted = expectations(nb::cast<const CheckpointObject&>(expected).get());
  } else {
    wanted = value_or_raise(parse_expectations(nb::cast<std::string>(expected)));
  }
  return to_python(value_or_raise(released([&] { return match(checkpoint, wanted, options); })));
}

struct ConvertArguments {
  std::string format;  // "safetensors", "torch" or "set"
  bool replace = false;
  bool seal = true;
  bool sync = true;
  bool verify = true;
  bool ignore_crc = false;
  bool expand_aliases = false;
  bool allow_expansion = false;
  bool convert_objects = false;
  unsigned threads = 2;
  std::uint64_t max_shard_nbytes = kDefaultShardNbytes;
  nb::object storage_options = nb::none();  // of a URL
};

SaveOptions save_options(const ConvertArguments& arguments, Interruptible& work) {
  SaveOptions options;
  options.seal = arguments.seal;
  options.sync = arguments.sync;
  options.replace = arguments.replace;
  options.verify = arguments.verify ? Verify::yes : Verify::no;
  options.ignore_crc = arguments.ignore_crc;
  options.threads = arguments.threads;
  options.progress = work.progress();
  return options;
}

nb::object set_to_python(const SaveSetReport& report) {
  std::vector<std::string> files;
  for (const SavedShard& shard : report.shards) files.push_back(shard.file_name);
  return to_python(report.files, files, report.notes);
}

SavePlan plan_of(const Checkpoint& checkpoint, const ConvertArguments& arguments) {
  const SavePlanOptions all{.expand_aliases = arguments.expand_aliases,
                            .allow_expansion = arguments.allow_expansion};
  return value_or_raise(released([&] { return make_plan(checkpoint, all); }));
}

nb::object upload(const Checkpoint& checkpoint, const nb::handle& to,
                  const ConvertArguments& arguments, const nb::object& progress) {
  if (arguments.format == "torch") throw nb::value_error("format: 'torch' is for local files");
  const SavePlan plan = plan_of(checkpoint, arguments);
  Interruptible work(progress);
  const SaveOptions file = save_options(arguments, work);
  const RemoteOutput output(to, arguments.storage_options, arguments.replace);
  if (arguments.format == "set") {
    const SaveSetOptions options{
        .max_shard_nbytes = arguments.max_shard_nbytes, .replace = arguments.replace, .file = file};
    return set_to_python(work.run([&] { return output.save_set(plan, options); }));
  }
  return to_python(work.run([&] { return output.save(plan, file); }), {}, {});
}

nb::object convert_checkpoint(const CheckpointObject& source, const nb::handle& to,
                              const ConvertArguments& arguments, const nb::object& progress) {
  const Checkpoint checkpoint = source.get();
  if (is_url(to)) return upload(checkpoint, to, arguments, progress);
  const std::filesystem::path path = path_argument(to, "to");
  const WrittenAs kind = arguments.format == "set" ? WrittenAs::folder : WrittenAs::file;
  value_or_raise(released([&] { return check_not_input(checkpoint, path, kind); }));
  const SavePlan plan = plan_of(checkpoint, arguments);
  Interruptible work(progress);
  const SaveOptions file = save_options(arguments, work);
  if (arguments.format == "torch") {
    const SaveTorchOptions options{.file = file,
                                   .unsafe_objects = arguments.convert_objects
                                                         ? UnsafeObjects::convert
                                                         : UnsafeObjects::refuse};
    const SaveTorchReport report = work.run([&] { return save_torch(path, plan, options); });
    return to_python(report.file, {}, report.notes);
  }
  if (arguments.format == "set") {
    const SaveSetOptions options{
        .max_shard_nbytes = arguments.max_shard_nbytes, .replace = arguments.replace, .file = file};
    return set_to_python(work.run([&] { return save_set(path, plan, options); }));
  }
  return to_python(work.run([&] { return save(path, plan, file); }), {}, {});
}

}  // namespace

void bind_commands(nb::module_& module) {
  module.def("_verify", &verify_checkpoint, nb::arg("source"), nb::arg("threads"),
             nb::arg("progress").none());
  module.def("_diff", &diff_checkpoints, nb::arg("a"), nb::arg("b"), nb::arg("values"),
             nb::arg("threads"), nb::arg("progress").none());
  module.def("_scan", &scan_path, nb::arg("path"), nb::arg("recursive"),
             nb::arg("storage_options").none());
  module.def("_match", &match_checkpoint, nb::arg("source"), nb::arg("expected"), nb::arg("torch"),
             nb::arg("exact_dtypes"), nb::arg("ignore_mismatched_sizes"));
  module.def(
      "_convert",
      [](const CheckpointObject& source, const nb::handle& to, std::string format, bool replace,
         bool seal, bool sync, bool verify, bool ignore_crc, bool expand_aliases,
         bool allow_expansion, bool convert_objects, unsigned threads,
         std::uint64_t max_shard_nbytes, const nb::object& storage_options,
         const nb::object& progress) {
        return convert_checkpoint(
            source, to,
            {std::move(format), replace, seal, sync, verify, ignore_crc, expand_aliases,
             allow_expansion, convert_objects, threads, max_shard_nbytes, storage_options},
            progress);
      },
      nb::arg("source"), nb::arg("to"), nb::kw_only(), nb::arg("format"), nb::arg("replace"),
      nb::arg("seal"), nb::arg("sync"), nb::arg("verify"), nb::arg("ignore_crc"),
      nb::arg("expand_aliases"), nb::arg("allow_expansion"), nb::arg("convert_objects"),
      nb::arg("threads"), nb::arg("max_shard_nbytes"), nb::arg("storage_options").none(),
      nb::arg("progress").none());
}

}  // namespace flatbed::python
