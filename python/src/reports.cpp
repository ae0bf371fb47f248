#include "reports.hpp"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include <filesystem>

#include "gil.hpp"

namespace flatbed::python {

namespace {

void put(nb::dict& fields, const nb::arg_v& field) { fields[field.name_] = field.value; }

// flatbed.reports._make(name, field=value...)
template <typename... Fields>
nb::object make(const char* report, Fields&&... fields) {
  nb::dict named;
  (put(named, fields), ...);
  return call_python(import_python("flatbed.reports", "_make"), nb::make_tuple(report), named);
}

// Any bytes are a path on Linux; Python has those that are no UTF-8 as surrogates.
nb::object path_text(const std::filesystem::path& path) {
  const std::string& bytes = path.native();
  nb::object text = nb::steal(
      PyUnicode_DecodeFSDefaultAndSize(bytes.data(), static_cast<Py_ssize_t>(bytes.size())));
  if (!text.is_valid()) throw nb::python_error();
  return text;
}

// Text from a file, which may hold any bytes.
nb::object lenient_text(std::string_view bytes) {
  nb::object text = nb::steal(PyUnicode_DecodeUTF8(
      bytes.data(), static_cast<Py_ssize_t>(bytes.size()), "backslashreplace"));
  if (!text.is_valid()) throw nb::python_error();
  return text;
}

template <typename Items, typename ToPython>
nb::list list_of(const Items& items, ToPython&& to_python_of) {
  nb::list list;
  for (const auto& item : items) list.append(to_python_of(item));
  return list;
}

nb::tuple shape_tuple(ShapeView shape) {
  return nb::tuple(list_of(shape, [](std::uint64_t size) { return nb::int_(size); }));
}

nb::object shape_or_none(const std::optional<std::vector<std::uint64_t>>& shape) {
  return shape ? nb::object(shape_tuple(*shape)) : nb::none();
}

nb::object dtype_or_none(const std::optional<Dtype>& dtype) {
  return dtype ? nb::cast(name(*dtype)) : nb::none();
}

nb::object to_python(const CrcReport& crc) {
  return make(
      "CrcReport", nb::arg("checked") = crc.checked, nb::arg("read_in_part") = crc.read_in_part,
      nb::arg("mismatched") = crc.mismatched, nb::arg("unstated") = crc.unstated,
      nb::arg("mismatches") =
          list_of(crc.mismatches,
                  [](const CrcMismatch& one) {
                    return make("CrcMismatch", nb::arg("file") = path_text(one.file),
                                nb::arg("record") = lenient_text(one.record),
                                nb::arg("stated") = one.stated, nb::arg("found") = one.found);
                  }),
      nb::arg("without") = list_of(crc.without, path_text),
      nb::arg("unchecked_files") = crc.unchecked_files);
}

nb::object to_python(const ScanFinding& one, const ScanReport& report) {
  return make("ScanFinding", nb::arg("severity") = name(one.severity),
              nb::arg("kind") = name(one.kind), nb::arg("module") = lenient_text(one.module),
              nb::arg("qualname") = lenient_text(one.qualname),
              nb::arg("record") = lenient_text(one.record), nb::arg("offset") = one.offset,
              nb::arg("count") = one.count,
              nb::arg("file") = path_text(report.files[one.file].path),
              nb::arg("text") = lenient_text(one.text));
}

nb::object to_python(const std::optional<ValueDifference>& values) {
  if (!values) return nb::none();
  return make("ValueDifference", nb::arg("max_abs") = values->max_abs,
              nb::arg("max_rel") = values->max_rel, nb::arg("mean_abs") = values->mean_abs,
              nb::arg("different") = values->different, nb::arg("nans_a") = values->nans_a,
              nb::arg("nans_b") = values->nans_b);
}

nb::object to_python(const TensorDifference& one) {
  const auto dtype = [](const std::optional<TensorInfo>& info) {
    return info ? nb::cast(name(info->dtype)) : nb::none();
  };
  const auto shape = [](const std::optional<TensorInfo>& info) {
    return info ? nb::object(shape_tuple(info->shape)) : nb::none();
  };
  return make("TensorDifference", nb::arg("name") = one.name, nb::arg("change") = name(one.change),
              nb::arg("dtype_a") = dtype(one.a), nb::arg("shape_a") = shape(one.a),
              nb::arg("dtype_b") = dtype(one.b), nb::arg("shape_b") = shape(one.b),
              nb::arg("chunks") = one.chunks, nb::arg("values") = to_python(one.values));
}

nb::object to_python(const Mismatch& one) {
  return make("Mismatch", nb::arg("name") = one.name, nb::arg("shape") = shape_tuple(one.shape),
              nb::arg("expected_shape") = shape_or_none(one.expected_shape),
              nb::arg("dtype") = name(one.dtype),
              nb::arg("expected_dtype") = dtype_or_none(one.expected_dtype));
}

nb::object to_python(const std::optional<PrefixRule>& rule) {
  if (!rule) return nb::none();
  return make("PrefixRule", nb::arg("strip") = rule->strip, nb::arg("add") = rule->add,
              nb::arg("matches_before") = rule->matches_before, nb::arg("matches") = rule->matches,
              nb::arg("reason") = rule->reason);
}

}  // namespace

nb::object to_python(const FileInfo& file) {
  return make("FileInfo", nb::arg("path") = path_text(file.path), nb::arg("nbytes") = file.nbytes,
              nb::arg("seal") = name(file.seal), nb::arg("content") = file.content,
              nb::arg("seal_note") = lenient_text(file.seal_note),
              nb::arg("sidecar") = file.sidecar);
}

nb::object to_python(const VerifyReport& report, const Checkpoint& checkpoint) {
  const std::span<const FileInfo> files = checkpoint.files();
  const std::span<const TensorInfo> tensors = checkpoint.tensors();
  return make("VerifyReport", nb::arg("bytes_checked") = report.bytes_checked,
              nb::arg("chunks_checked") = report.chunks_checked,
              nb::arg("chunks_reread") = report.chunks_reread,
              nb::arg("damaged") = list_of(
                  report.damaged,
                  [&](const DamagedRange& one) {
                    return make("DamagedRange", nb::arg("file") = path_text(files[one.file].path),
                                nb::arg("tensor") = tensors[one.tensor].name,
                                nb::arg("begin") = one.begin, nb::arg("end") = one.end);
                  }),
              nb::arg("damaged_complete") = report.damaged_complete,
              nb::arg("crc") = to_python(report.crc));
}

nb::object to_python(const ScanReport& report) {
  return make("ScanReport", nb::arg("verdict") = name(report.verdict),
              nb::arg("findings") = list_of(
                  report.findings, [&](const ScanFinding& one) { return to_python(one, report); }),
              nb::arg("findings_complete") = report.findings_complete,
              nb::arg("files") = list_of(report.files, [](const ScannedFile& file) {
                return make("ScannedFile", nb::arg("path") = path_text(file.path),
                            nb::arg("verdict") = name(file.verdict), nb::arg("what") = file.what,
                            nb::arg("pickles") = file.pickles, nb::arg("scanned") = file.scanned);
              }));
}

nb::object to_python(const DiffReport& report) {
  return make(
      "DiffReport",
      nb::arg("tensors") =
          list_of(report.tensors, [](const TensorDifference& one) { return to_python(one); }),
      nb::arg("equal_tensors") = report.equal_tensors,
      nb::arg("trees_compared") = report.trees_compared,
      nb::arg("tree") =
          list_of(report.tree, [](const TreeDifference& one) { return lenient_text(one.path); }),
      nb::arg("tree_complete") = report.tree_complete, nb::arg("bytes_read") = report.bytes_read);
}

nb::object to_python(const MatchReport& report) {
  nb::dict near_names;
  for (const NearName& one : report.near_names) {
    near_names[nb::cast(one.missing)] = nb::cast(one.near);
  }
  return make("MatchReport", nb::arg("missing_keys") = report.missing_keys,
              nb::arg("unexpected_keys") = report.unexpected_keys,
              nb::arg("mismatched") =
                  list_of(report.mismatched, [](const Mismatch& one) { return to_python(one); }),
              nb::arg("matched") = report.matched.size(),
              nb::arg("suggested") = to_python(report.suggested),
              nb::arg("near_names") = near_names, nb::arg("complete") = report.complete());
}

nb::object to_python(const SaveReport& report, const std::vector<std::string>& files,
                     const std::vector<std::string>& notes) {
  return make(
      "ConvertReport", nb::arg("nbytes") = report.nbytes, nb::arg("content") = report.content,
      nb::arg("durable") = report.durability == Durability::committed, nb::arg("files") = files,
      nb::arg("notes") = notes, nb::arg("casts") = report.casts.tensors,
      nb::arg("cast_overflows") = report.casts.counts.total(),
      nb::arg("chunks_reread") = report.chunks_reread, nb::arg("crc") = to_python(report.crc));
}

}  // namespace flatbed::python
