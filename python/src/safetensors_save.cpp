// flatbed._flatbed.TensorSpec, safetensors_serialize() and safetensors_serialize_file(): what
// flatbed.safetensors writes files with.
#include <nanobind/stl/filesystem.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "bindings.hpp"
#include "errors.hpp"
#include "flatbed/save.hpp"

namespace flatbed::python {

namespace {

using Shape = std::vector<std::uint64_t>;

struct NamedDtype {
  std::string_view name;  // as torch and numpy call it
  Dtype dtype;
};

constexpr std::array kNamedDtypes{
    NamedDtype{"bool", Dtype::boolean},
    NamedDtype{"int8", Dtype::i8},
    NamedDtype{"uint8", Dtype::u8},
    NamedDtype{"int16", Dtype::i16},
    NamedDtype{"uint16", Dtype::u16},
    NamedDtype{"int32", Dtype::i32},
    NamedDtype{"uint32", Dtype::u32},
    NamedDtype{"int64", Dtype::i64},
    NamedDtype{"uint64", Dtype::u64},
    NamedDtype{"float16", Dtype::f16},
    NamedDtype{"float32", Dtype::f32},
    NamedDtype{"float64", Dtype::f64},
    NamedDtype{"bfloat16", Dtype::bf16},
    NamedDtype{"float8_e4m3fn", Dtype::f8_e4m3},
    NamedDtype{"float8_e4m3fnuz", Dtype::f8_e4m3fnuz},
    NamedDtype{"float8_e5m2", Dtype::f8_e5m2},
    NamedDtype{"float8_e5m2fnuz", Dtype::f8_e5m2fnuz},
    NamedDtype{"float8_e8m0fnu", Dtype::f8_e8m0},
    NamedDtype{"float4_e2m1fn_x2", Dtype::f4},
    NamedDtype{"complex64", Dtype::c64},
};

Result<Dtype> read_dtype(std::string_view wanted) {
  std::string known;
  for (const NamedDtype& row : kNamedDtypes) {
    if (row.name == wanted) return row.dtype;
    known += known.empty() ? "" : ", ";
    known += row.name;
  }
  return Error{ErrorCode::unknown_dtype,
               "unknown dtype '" + std::string(wanted) + "', expected one of: " + known};
}

// A tensor in memory that the caller keeps.
struct TensorSpec {
  Dtype dtype;
  Shape shape;  // in elements: of dtypes that torch packs, the last dimension is doubled
  std::uint64_t data_ptr;
  std::uint64_t data_len;  // in bytes

  [[nodiscard]] std::span<const std::byte> bytes() const {
    // The caller vouches for the address, as for any pointer.
    return {reinterpret_cast<const std::byte*>(static_cast<std::uintptr_t>(data_ptr)),
            static_cast<std::size_t>(data_len)};
  }
};

// As a flatbed.safetensors.SafetensorError.
[[noreturn]] void raise_safetensors_error(const Error& error) {
  const nb::object made =
      call_python(import_python("flatbed.safetensors._errors", "SafetensorError"),
                  message_text(error.message), static_cast<int>(error.code), name(error.code));
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(made.ptr())), made.ptr());
  throw nb::python_error();
}

void make_spec(TensorSpec* self, std::string_view dtype, Shape shape, std::uint64_t data_ptr,
               std::uint64_t data_len) {
  const Result<Dtype> known = read_dtype(dtype);
  if (!known) raise_safetensors_error(known.error());
  if (*known == Dtype::f4 && !shape.empty() &&
      __builtin_mul_overflow(shape.back(), 2, &shape.back())) {
    raise_safetensors_error(
        {ErrorCode::size_overflow, "the last dimension in elements does not fit 64 bits"});
  }
  new (self) TensorSpec{*known, std::move(shape), data_ptr, data_len};
}

nb::list shape_list(const TensorSpec& self) {
  nb::list shape;
  for (const std::uint64_t size : self.shape) shape.append(size);
  return shape;
}

nb::object repr(const TensorSpec& self) {
  return nb::str("TensorSpec(dtype={!r}, shape={}, data_ptr={}, data_len={})")
      .attr("format")(name(self.dtype), shape_list(self), self.data_ptr, self.data_len);
}

std::string to_text(const nb::handle& object, const char* what) {
  if (!nb::isinstance<nb::str>(object))
    nb::raise_type_error("%s: expected a str, not %s", what, nb::type_name(object.type()).c_str());
  Py_ssize_t nbytes = 0;
  const char* const utf8 = PyUnicode_AsUTF8AndSize(object.ptr(), &nbytes);
  if (utf8 == nullptr) throw nb::python_error();  // UnicodeEncodeError, for a lone surrogate
  return {utf8, static_cast<std::size_t>(nbytes)};
}

SavePlan plan_of(const nb::dict& tensors, const std::optional<nb::dict>& metadata) {
  SavePlan plan;
  plan.items.reserve(tensors.size());
  for (const auto& [key, value] : tensors) {
    if (!nb::isinstance<TensorSpec>(value)) {
      nb::raise_type_error("tensor_dict: expected a TensorSpec, not %s",
                           nb::type_name(value.type()).c_str());
    }
    const auto& spec = nb::cast<const TensorSpec&>(value);
    plan.items.push_back({to_text(key, "tensor_dict"), spec.dtype, spec.shape, spec.bytes()});
  }
  if (metadata) {
    for (const auto& [key, value] : *metadata)
      plan.metadata.emplace_back(to_text(key, "metadata"), to_text(value, "metadata"));
  }
  return plan;
}

SaveOptions options_for(bool seal, const std::optional<nb::dict>& metadata) {
  SaveOptions options;
  options.seal = seal;
  options.sync = seal;  // the reference leaves that to the system
  options.allow_large_header = true;
  options.threads = std::clamp(std::thread::hardware_concurrency(), 1U, 4U);
  options.layout = seal ? FileLayout::flatbed : FileLayout::safetensors;
  options.empty_metadata = metadata.has_value();
  return options;
}

nb::object serialize(const nb::dict& tensors, const std::optional<nb::dict>& metadata, bool seal) {
  const SavePlan plan = plan_of(tensors, metadata);
  SaveOptions options = options_for(seal, metadata);
  nb::object out;
  const AllocateFile allocate = [&](std::uint64_t nbytes) -> Result<std::span<std::byte>> {
    const GilHeld held;
    out = nb::steal(PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(nbytes)));
    if (!out.is_valid()) {
      PyErr_Clear();
      return Error{ErrorCode::resource_exhausted, "out of memory for the file"};
    }
    return std::span(reinterpret_cast<std::byte*>(PyBytes_AsString(out.ptr())),
                     static_cast<std::size_t>(nbytes));
  };
  Interruptible work{nb::none()};
  options.progress = work.progress();
  work.run([&] { return save_memory(plan, allocate, options); });
  return out;
}

void serialize_file(const nb::dict& tensors, const std::filesystem::path& path,
                    const std::optional<nb::dict>& metadata, bool seal) {
  const SavePlan plan = plan_of(tensors, metadata);
  SaveOptions options = options_for(seal, metadata);
  Interruptible work{nb::none()};
  options.progress = work.progress();
  work.run([&] { return save(path, plan, options); });
}

}  // namespace

void bind_safetensors_save(nb::module_& module) {
  nb::class_<TensorSpec>(module, "TensorSpec", nb::is_final(),
                         "A tensor in memory: its dtype, shape, address and size in bytes.\n\n"
                         "The caller keeps the memory until the tensor has been written. Of dtypes "
                         "that are packed in pairs (float4_e2m1fn_x2) the shape counts pairs when "
                         "it is given, and elements when it is asked for.")
      .def("__init__", &make_spec, nb::kw_only(), nb::arg("dtype"), nb::arg("shape"),
           nb::arg("data_ptr"), nb::arg("data_len"))
      .def_prop_ro(
          "dtype", [](const TensorSpec& self) { return name(self.dtype); },
          "The dtype's name in a file, such as \"F32\".")
      .def_prop_ro("shape", &shape_list, nb::for_getter(nb::sig("def shape(self) -> list[int]")),
                   "The sizes of the dimensions, in elements.")
      .def_ro("data_ptr", &TensorSpec::data_ptr, "The address of the first byte.")
      .def_ro("data_len", &TensorSpec::data_len, "The size in bytes.")
      .def("__repr__", &repr, nb::sig("def __repr__(self) -> str"));
  module.def("safetensors_serialize", &serialize, nb::arg("tensor_dict"),
             nb::arg("metadata").none(), nb::arg("seal"),
             nb::sig("def safetensors_serialize(tensor_dict: dict[str, TensorSpec], "
                     "metadata: dict[str, str] | None, seal: bool) -> bytes"),
             "The file as bytes.");
  module.def("safetensors_serialize_file", &serialize_file, nb::arg("tensor_dict"),
             nb::arg("filename"), nb::arg("metadata").none(), nb::arg("seal"),
             nb::sig("def safetensors_serialize_file(tensor_dict: dict[str, TensorSpec], "
                     "filename: str | os.PathLike[str], metadata: dict[str, str] | None, "
                     "seal: bool) -> None"),
             "Writes the file.");
}

}  // namespace flatbed::python
