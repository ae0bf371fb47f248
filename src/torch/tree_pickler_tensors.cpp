// Tensors, numpy arrays and numpy scalars in a pickle.
#include <charconv>
#include <system_error>

#include "base/str_cat.hpp"
#include "torch/tree_pickler.hpp"
#include "value/numpy_scalar.hpp"

namespace flatbed::pth {

namespace {

bool is_quantized(const TorchForm& form) { return is_quantized(kTorchDtypes[form.dtype]); }

// torch's dtypes without a storage class are stored as bytes and need the third function.
bool is_typed(const TorchForm& form) { return !kTorchDtypes[form.dtype].storage.empty(); }

std::string_view rebuild_function(const TorchForm& form) {
  return is_quantized(form) ? "_rebuild_qtensor"
         : is_typed(form)   ? "_rebuild_tensor_v2"
                            : "_rebuild_tensor_v3";
}

constexpr std::string_view kNumpyKinds = "biufcSUVMm";

struct NumpyUnit {
  std::string_view name = "generic";
  std::int64_t count = 1;
};

// The "[25s]" at the end of a date's typestr; nullopt if it is malformed.
std::optional<NumpyUnit> numpy_unit(std::string_view typestr) {
  const std::size_t begin = typestr.find('[');
  if (begin == std::string_view::npos) return NumpyUnit();
  if (begin < 3) return std::nullopt;
  const bool dated = typestr[1] == 'M' || typestr[1] == 'm';
  std::string_view unit = typestr.substr(begin + 1);
  if (!dated || !unit.ends_with(']')) return std::nullopt;
  unit.remove_suffix(1);
  NumpyUnit found;
  const auto [end, error] = std::from_chars(unit.data(), unit.data() + unit.size(), found.count);
  if (end != unit.data() && (error != std::errc{} || found.count < 1)) return std::nullopt;
  found.name = unit.substr(static_cast<std::size_t>(end - unit.data()));
  return found.name.empty() ? std::nullopt : std::optional(found);
}

// In a pickle, where Latin-1 takes up to twice as many.
constexpr std::uint64_t kMaxContents = 0x7FFFFFFF;

constexpr std::string_view kUtils = "torch._utils";
constexpr std::string_view kMultiarray = "numpy.core.multiarray";

}  // namespace

Result<TorchForm> TreePickler::form_of(std::uint32_t number,
                                       const TensorAttributes& attributes) const {
  Result<TorchForm> form = torch_form(tensors_[number], attributes);
  if (!form) return with_context(place(), std::move(form).error());
  return form;
}

//   _rebuild_tensor_v2           (storage, offset, sizes, strides, requires_grad, hooks)
//   _rebuild_tensor_v3           (storage, offset, sizes, strides, requires_grad, hooks, dtype)
//   _rebuild_qtensor             (storage, offset, sizes, strides, quantizer, requires_grad, hooks)
//   _rebuild_parameter           (tensor, requires_grad, hooks)
//   _rebuild_parameter_with_state(tensor, requires_grad, hooks, state)
//   _rebuild_from_type_v2        (one of the first three, torch.Tensor, its arguments, state)
Result<void> TreePickler::tensor(Value value) {
  const TensorAttributes& attributes = value.attributes();
  FLATBED_ASSIGN(const TorchForm form, form_of(*value.tensor(), attributes));
  FLATBED_TRY(check_quantizer(attributes, form));
  push({{.what = Do::emit, .op = Op::reduce}, {.what = Do::remember, .node = value.id()}});
  if (attributes.state != kNoNode) {
    push({{.what = Do::value, .node = attributes.state}, {.what = Do::emit, .op = Op::tuple}});
  } else if (attributes.parameter) {
    push({{.what = Do::emit, .op = Op::tuple}});
  }
  push({{.what = Do::finish_tensor, .node = value.id()}});
  if (is_quantized(form)) push({{.what = Do::value, .node = attributes.quantizer}});
  return tensor_head(*value.tensor(), attributes, form);
}

Result<void> TreePickler::check_quantizer(const TensorAttributes& attributes,
                                          const TorchForm& form) const {
  if (!is_quantized(form) || attributes.quantizer != kNoNode) return {};
  return fail(ErrorCode::not_in_torch, "a tensor of torch.", kTorchDtypes[form.dtype].name,
              " without a quantizer");
}

// Writes everything up to the strides of the innermost tensor.
Result<void> TreePickler::tensor_head(std::uint32_t number, const TensorAttributes& attributes,
                                      const TorchForm& form) {
  const bool with_state = attributes.state != kNoNode;
  if (attributes.parameter) {
    out_.global(kUtils, with_state ? "_rebuild_parameter_with_state" : "_rebuild_parameter");
    out_.op(Op::mark);
  } else if (with_state) {
    out_.global("torch._tensor", "_rebuild_from_type_v2");
    out_.op(Op::mark);
  }
  out_.global(kUtils, rebuild_function(form));
  if (with_state && !attributes.parameter) out_.global("torch", "Tensor");
  tensor_arguments(number, attributes, form);
  return {};
}

void TreePickler::tensor_arguments(std::uint32_t number, const TensorAttributes& attributes,
                                   const TorchForm& form) {
  out_.op(Op::mark);
  storage(number, attributes, is_typed(form) ? form.dtype : kNoTorchDtype);
  out_.unsigned_integer(0);
  counts(form.sizes);
  counts(form.strides);
}

// _rebuild_from_type_v2(function, class, (tensor), state), with the arguments from which the
// function makes the tensor. Returns false for any other object.
Result<bool> TreePickler::subclass(Value value) {
  const Value callable = value.callable();
  const Value arguments = value.arguments();
  const bool from_type = callable.kind() == Kind::global && callable.text() == "torch._tensor" &&
                         callable.qualname() == "_rebuild_from_type_v2" && value.is_bare_call() &&
                         arguments.size() == 4;
  if (!from_type || arguments.item(2).kind() != Kind::tuple || arguments.item(2).size() != 1 ||
      arguments.item(2).item(0).kind() != Kind::tensor)
    return false;
  const Value type = arguments.item(1);
  const Value inner = arguments.item(2).item(0);
  const TensorAttributes& attributes = inner.attributes();
  if (type.kind() != Kind::global)
    return fail(ErrorCode::not_in_torch, "a tensor whose class is not a global cannot be written");
  if (attributes.parameter || attributes.state != kNoNode)
    return fail(ErrorCode::not_in_torch, "a tensor of the subclass ", full_name(type),
                " that is also a Parameter or has a state of its own cannot be written");
  FLATBED_ASSIGN(const TorchForm form, form_of(*inner.tensor(), attributes));
  FLATBED_TRY(check_quantizer(attributes, form));
  FLATBED_TRY(named(callable.text(), callable.qualname()));
  out_.op(Op::mark);
  out_.global(kUtils, rebuild_function(form));
  FLATBED_TRY(named(type.text(), type.qualname()));
  tensor_arguments(*inner.tensor(), attributes, form);
  push({{.what = Do::finish_tensor, .node = inner.id()},
        {.what = Do::value, .node = arguments.item(3).id()},
        {.what = Do::emit, .op = Op::tuple},
        {.what = Do::emit, .op = Op::reduce},
        {.what = Do::remember, .node = value.id()}});
  if (is_quantized(form)) push({{.what = Do::value, .node = attributes.quantizer}});
  return true;
}

// A storage as a value (a call of its class with one tensor) gets a persistent id. Returns false
// for any other object.
Result<bool> TreePickler::storage_value(Value value) {
  const Value callable = value.callable();
  const Value arguments = value.arguments();
  const std::uint8_t type =
      callable.text() == "torch" ? torch_dtype_of_storage(callable.qualname()) : kNoTorchDtype;
  const bool untyped =
      callable.text() == "torch.storage" && callable.qualname() == "UntypedStorage";
  if (callable.kind() != Kind::global || (type == kNoTorchDtype && !untyped)) return false;
  const bool of_tensor =
      value.is_bare_call() && arguments.size() == 1 && arguments.item(0).kind() == Kind::tensor;
  if (!of_tensor) {
    return fail(ErrorCode::not_in_torch, "a ", full_name(callable),
                " of something other than one tensor cannot be written");
  }
  const std::uint32_t number = *arguments.item(0).tensor();
  const StoredTensor& stored = tensors_[number];
  const Dtype wanted = untyped ? Dtype::u8 : kTorchDtypes[type].dtype;
  const bool pair = !untyped && kTorchDtypes[type].stored_as == StoredAs::pair;
  if (stored.dtype != wanted || stored.shape.size() != (pair ? 2 : 1) ||
      (pair && stored.shape[1] != 2))
    return fail(ErrorCode::not_in_torch, "a ", full_name(callable), " of a tensor ",
                name(stored.dtype), " ", shape_text(stored.shape.data(), stored.shape.size()),
                " is not written");
  storage(number, arguments.item(0).attributes(), type);
  remember(value.id());
  return true;
}

// Writes what follows the strides or the quantizer.
void TreePickler::finish_tensor(Value value) {
  const TensorAttributes& attributes = value.attributes();
  const Result<TorchForm> form = torch_form(tensors_[*value.tensor()], attributes);
  finish_plain(*form, attributes.requires_grad && !attributes.parameter);
  if (!attributes.parameter) return;
  out_.op(Op::reduce);
  out_.boolean(attributes.requires_grad);
  out_.empty_ordered_dict();
}

void TreePickler::finish_plain(const TorchForm& form, bool requires_grad) {
  out_.boolean(requires_grad);
  out_.empty_ordered_dict();
  if (!is_typed(form)) out_.global("torch", kTorchDtypes[form.dtype].name);
  out_.op(Op::tuple);
}

// ('storage', class, key, location, number of elements), or of bytes if there is no class.
void TreePickler::storage(std::uint32_t number, const TensorAttributes& attributes,
                          std::uint8_t type) {
  const bool typed = type != kNoTorchDtype;
  const std::uint32_t key = storage_key(number, type);
  const bool keeps = options_.keep_device && !attributes.device.empty();
  out_.op(Op::mark);
  out_.constant("storage");
  out_.global(typed ? "torch" : "torch.storage",
              typed ? kTorchDtypes[type].storage : "UntypedStorage");
  out_.text(str_cat(key));
  out_.constant(keeps ? std::string_view(attributes.device) : "cpu");
  out_.unsigned_integer(tensors_[number].nbytes / (typed ? kTorchDtypes[type].nbytes : 1));
  out_.op(Op::tuple).op(Op::binpersid);
}

void TreePickler::counts(std::span<const std::uint64_t> counts) {
  constexpr Op kShort[] = {Op::empty_tuple, Op::tuple1, Op::tuple2, Op::tuple3};
  if (counts.size() > 3) out_.op(Op::mark);
  for (const std::uint64_t count : counts) out_.unsigned_integer(count);
  out_.op(counts.size() > 3 ? Op::tuple : kShort[counts.size()]);
}

// The record of a tensor's bytes. torch reads every tensor on it by the class that it meets first,
// so two classes need two records. Bytes may share with either.
std::uint32_t TreePickler::storage_key(std::uint32_t number, std::uint8_t type) {
  std::uint32_t* link = &first_storage_[number];
  while (*link != kUnseen) {
    Storage& known = storages_[*link];
    if (known.type == type || known.type == kNoTorchDtype || type == kNoTorchDtype) {
      if (known.type == kNoTorchDtype) known.type = type;
      return *link;
    }
    link = &known.next;
  }
  const auto key = static_cast<std::uint32_t>(storages_.size());
  *link = key;
  storages_.push_back({number, type, kUnseen});
  return key;
}

Result<std::string> TreePickler::contents(std::uint32_t number) const {
  Result<std::string> content = options_.contents(number);
  if (!content) return with_context(place(), std::move(content).error());
  return content;
}

// ---- numpy --------------------------------------------------------------------------------------

Result<void> TreePickler::array(Value value) {
  switch (options_.unsafe_objects) {
    case UnsafeObjects::refuse:
      return refused("a numpy array");
    case UnsafeObjects::convert:
      return array_as_tensor(value);
    default:
      return array_as_is(value);
  }
}

Result<void> TreePickler::array_as_tensor(Value value) {
  const std::uint32_t number = *value.tensor();
  const std::optional<TypeStr> type = parse_typestr(value.text());
  const Dtype stored = tensors_[number].dtype;
  const bool numeric = type && std::string_view("biufc").find(type->kind) != std::string_view::npos;
  // Types that torch does not have are stored as raw bytes.
  if (!numeric || (stored == Dtype::u8 && (type->kind != 'u' || type->nbytes != 1)))
    return refused(
        str_cat("a numpy array of ", quoted(value.text()), ", which no tensor can hold"));
  TensorAttributes attributes;
  if (type->kind == 'c' && type->nbytes == 16) attributes.dtype = "complex128";
  FLATBED_ASSIGN(const TorchForm form, form_of(number, attributes));
  report("numpy.ndarray", "torch.Tensor");
  FLATBED_TRY(tensor_head(number, attributes, form));
  finish_plain(form, false);
  out_.op(Op::reduce);
  remember(value.id());
  return {};
}

//   _reconstruct(numpy.ndarray, (0,), b"b"), then the state (1, shape, dtype, False, bytes)
Result<void> TreePickler::array_as_is(Value value) {
  const std::uint32_t number = *value.tensor();
  const StoredTensor& stored = tensors_[number];
  const std::optional<TypeStr> type = parse_typestr(value.text());
  if (!type || type->nbytes == 0 || stored.nbytes > kMaxContents)
    return fail(ErrorCode::limit_exceeded, "a numpy array ", quoted(value.text()), " of ",
                stored.nbytes, " bytes");
  const bool raw = stored.dtype == Dtype::u8 && (type->kind != 'u' || type->nbytes != 1);
  std::span<const std::uint64_t> shape = stored.shape;
  if (raw || (type->kind == 'c' && type->nbytes == 16)) {
    if (shape.empty())
      return fail(ErrorCode::not_in_torch, "a numpy array ", quoted(value.text()),
                  " whose tensor has no dimension for the items");
    shape = shape.first(shape.size() - 1);
  }
  FLATBED_ASSIGN(std::string content, contents(number));
  if (type->order == '>' && !raw) content = swapped(*type, content);

  out_.global(kMultiarray, "_reconstruct");
  out_.global("numpy", "ndarray");
  out_.unsigned_integer(0);
  out_.op(Op::tuple1);
  out_.bytes("b");
  out_.op(Op::tuple3).op(Op::reduce);
  remember(value.id());
  out_.op(Op::mark);
  out_.unsigned_integer(1);
  counts(shape);
  FLATBED_TRY(numpy_dtype(value.text()));
  out_.boolean(false);
  out_.bytes(content);
  out_.op(Op::tuple).op(Op::build);
  return {};
}

//   numpy.dtype("f8", False, True), then the state
//     (3, "<", None, None, None, -1, -1, 0)              of numbers
//     (3, "<", None, None, None, nbytes, alignment, flags)    of texts and raw bytes
//     (4, "<", None, None, None, -1, -1, 0, ({}, (unit, count, 1, 1)))    of dates
Result<void> TreePickler::numpy_dtype(std::string_view typestr) {
  const std::optional<TypeStr> type = parse_typestr(typestr);
  const std::optional<NumpyUnit> unit = numpy_unit(typestr);
  if (!type || !unit || kNumpyKinds.find(type->kind) == std::string_view::npos)
    return fail(ErrorCode::not_in_torch, "numpy's dtype ", quoted(typestr), " is not written");
  const bool dated = type->kind == 'M' || type->kind == 'm';
  const bool flexible = type->kind == 'U' || type->kind == 'S' || type->kind == 'V';
  const bool unicode = type->kind == 'U';
  out_.global("numpy", "dtype");
  out_.text(typestr.substr(1, typestr.find('[') - 1));
  out_.boolean(false);
  out_.boolean(true);
  out_.op(Op::tuple3).op(Op::reduce);
  out_.op(Op::mark);
  out_.integer(dated ? 4 : 3);
  out_.constant(typestr.substr(0, 1));
  out_.none();
  out_.none();
  out_.none();
  out_.integer(flexible ? static_cast<std::int64_t>(type->nbytes) : -1);
  out_.integer(!flexible ? -1 : unicode ? 4 : 1);
  out_.integer(unicode ? 8 : 0);  // numpy's NPY_NEEDS_INIT
  if (dated) {
    out_.op(Op::empty_dict).op(Op::mark);
    out_.bytes(unit->name);
    out_.integer(unit->count);
    out_.integer(1);
    out_.integer(1);
    out_.op(Op::tuple).op(Op::tuple2);
  }
  out_.op(Op::tuple).op(Op::build);
  return {};
}

Result<void> TreePickler::scalar(Value value) {
  if (options_.unsafe_objects == UnsafeObjects::refuse) return refused("a numpy scalar");
  if (options_.unsafe_objects == UnsafeObjects::convert) return scalar_as_python(value);
  out_.global(kMultiarray, "scalar");
  FLATBED_TRY(numpy_dtype(value.text()));
  out_.bytes(value.raw());
  out_.op(Op::tuple2).op(Op::reduce);
  return {};
}

Result<void> TreePickler::scalar_as_python(Value value) {
  const std::optional<ScalarValue> python = scalar_value(value.text(), value.raw());
  if (!python)
    return refused(
        str_cat("a numpy scalar of ", quoted(value.text()), ", which no Python number can hold"));
  const auto write = [&](std::string_view type, auto emit) {
    report("a numpy scalar", type);
    emit();
  };
  if (const auto* boolean = std::get_if<bool>(&*python)) {
    write("bool", [&] { out_.boolean(*boolean); });
  } else if (const auto* integer = std::get_if<std::int64_t>(&*python)) {
    write("int", [&] { out_.integer(*integer); });
  } else if (const auto* big = std::get_if<std::uint64_t>(&*python)) {
    write("int", [&] { out_.unsigned_integer(*big); });
  } else if (const auto* real = std::get_if<double>(&*python)) {
    write("float", [&] { out_.real(*real); });
  } else if (const auto* complex = std::get_if<std::complex<double>>(&*python)) {
    write("complex", [&] {
      out_.global("builtins", "complex");
      out_.real(complex->real());
      out_.real(complex->imag());
      out_.op(Op::tuple2).op(Op::reduce);
    });
  } else if (const auto* text = std::get_if<UnicodeText>(&*python)) {
    write("str", [&] { out_.text(text->wtf8); });
  } else if (const auto* bytes = std::get_if<std::string>(&*python)) {
    write("bytes", [&] { out_.bytes(*bytes); });
  }
  return {};
}

}  // namespace flatbed::pth
