#include "torch/torch_tensors.hpp"

#include <algorithm>
#include <optional>

#include "base/bytes.hpp"
#include "base/checked.hpp"
#include "base/str_cat.hpp"

namespace flatbed::pth {

namespace {

// Two words precede a tensor's dimensions. With them they tell which view of which storage it is.
constexpr std::size_t kKeyWords = 2;
constexpr std::uint32_t kNoTensor = 0xFFFFFFFF;

template <typename... Parts>
Error malformed_id(const Parts&... parts) {
  return make_error(ErrorCode::persistent_id_malformed, "persistent id: ", parts...);
}

template <typename... Parts>
Error malformed_call(const Parts&... parts) {
  return make_error(ErrorCode::rebuild_malformed, parts...);
}

// A number of elements: an int (not a bool) that is not negative.
std::optional<std::uint64_t> as_count(Value value) {
  const std::optional<std::int64_t> integer = value.as_int();
  if (!integer || *integer < 0) return std::nullopt;
  return static_cast<std::uint64_t>(*integer);
}

// Sizes or strides: a tuple of counts, or torch.Size of one.
Result<std::size_t> read_counts(Value value, const TorchGlobals& globals, std::string_view what,
                                std::array<std::uint64_t, kMaxRank>& out) {
  if (value.kind() == Kind::object && value.arguments().size() == 1 &&
      globals.find(value.callable().id()).meaning == Meaning::size_class)
    value = value.arguments().item(0);
  if (value.kind() != Kind::tuple) return malformed_call("the ", what, " are not a tuple");
  const std::size_t rank = value.size();
  if (rank > kMaxRank) return malformed_call(rank, " dimensions, torch allows ", kMaxRank);
  for (std::size_t i = 0; i < rank; ++i) {
    const std::optional<std::uint64_t> count = as_count(value.item(i));
    if (!count) return malformed_call("the ", what, " hold something other than non-negative ints");
    out[i] = *count;
  }
  return rank;
}

// (scheme, scale, zero_point) or (scheme, scales, zero_points, axis).
Result<void> check_quantizer(Value quantizer, std::size_t rank) {
  const Value scheme =
      quantizer.kind() == Kind::tuple && quantizer.size() != 0 ? quantizer.item(0) : quantizer;
  const bool of_torch = scheme.kind() == Kind::global && scheme.text() == "torch";
  if (of_torch && scheme.qualname().starts_with("per_tensor_") && quantizer.size() == 3) {
    if (quantizer.item(1).as_real() && quantizer.item(2).as_int()) return {};
    return malformed_call("the quantizer is not (scheme, float, int)");
  }
  if (!of_torch || !scheme.qualname().starts_with("per_channel_") || quantizer.size() != 4)
    return malformed_call("the quantizer has an unknown scheme or the wrong arguments");
  for (std::size_t i = 1; i < 3; ++i) {
    const Kind kind = quantizer.item(i).kind();
    if (kind != Kind::tensor && kind != Kind::list)
      return malformed_call("the quantizer's scales or zero points are not a tensor");
  }
  const std::optional<std::uint64_t> axis = as_count(quantizer.item(3));
  if (!axis || *axis >= rank) return malformed_call("the quantizer's axis is not a dimension");
  return {};
}

bool can_be_negated(const TorchDtype& dtype) {
  return dtype.complex || (!dtype.named && dtype.dtype != Dtype::boolean &&
                           dtype.dtype != Dtype::f8_e8m0 && dtype.dtype != Dtype::f4);
}

// Whether torch sees it as contiguous: strides of dimensions of size 1 do not matter.
bool is_contiguous(std::span<const std::uint64_t> sizes, std::span<const std::uint64_t> strides) {
  std::uint64_t expected = 1;
  for (std::size_t i = sizes.size(); i-- > 0;) {
    if (sizes[i] == 1) continue;
    if (strides[i] != expected) return false;
    expected *= sizes[i];  // a divisor of the number of elements, which is known to fit
  }
  return true;
}

}  // namespace

Result<NodeId> TorchTensors::persistent(NodeId id, PersistentIds ids) {
  const Value tuple = tree_.value(id);
  const bool legacy = ids == PersistentIds::legacy;
  if (tuple.kind() != Kind::tuple || tuple.size() != (legacy ? 6 : 5))
    return malformed_id("expected a tuple ('storage', class, key, location, count",
                        legacy ? ", view)" : ")");
  if (tuple.item(0).kind() != Kind::string || tuple.item(0).text() != "storage")
    return malformed_id("its first item is not 'storage'");
  FLATBED_ASSIGN(const NodeId storage,
                 name_storage({tuple.item(1), tuple.item(2), tuple.item(3), tuple.item(4)}));
  if (!legacy || tuple.item(5).kind() == Kind::none) return storage;
  const Value view = tuple.item(5);
  if (view.kind() != Kind::tuple || view.size() != 3)
    return malformed_id("its view is not a tuple (key, offset, count)");
  return name_view(storage, {view.item(0), view.item(1), view.item(2)});
}

Result<NodeId> TorchTensors::name_storage(const StorageText& text) {
  const TorchGlobal type = globals_.find(text.type.id());
  const Value key = text.key;
  const std::optional<std::uint64_t> count = as_count(text.count);
  if (type.meaning != Meaning::storage_class && type.meaning != Meaning::untyped_storage_class) {
    return malformed_id(text.type.kind() == Kind::global
                            ? quoted(str_cat(text.type.text(), ".", text.type.qualname()))
                            : "its class",
                        " is not a storage class");
  }
  if (key.kind() != Kind::string || key.text().empty() ||
      key.text().find('/') != std::string_view::npos)
    return malformed_id("its key is not a plain name");
  if (text.location.kind() != Kind::string) return malformed_id("its location is not a text");
  if (!count) return malformed_id("its count is not a non-negative int");
  const std::optional<std::uint64_t> nbytes =
      checked_mul(*count, type.dtype == kNoTorchDtype ? 1 : kTorchDtypes[type.dtype].nbytes);
  if (!nbytes)
    return make_error(ErrorCode::size_overflow, "storage ", quoted(key.text()), ": ", *count,
                      " elements");
  FLATBED_ASSIGN(const std::uint32_t storage, add_storage(key, type.dtype, *nbytes));
  return add_use({storage, type.dtype, text.location.id(), 0, *nbytes});
}

// In Python the same key is the same storage object.
NodeId TorchTensors::add_use(const StorageUse& use) {
  use_nodes_.resize(file_.storages.size(), kNoNode);
  NodeId& node = use_nodes_[use.storage];
  if (node != kNoNode) {
    const StorageUse& last = uses_[*tree_.value(node).tensor() & ~kStorageFlag];
    const bool same = last.dtype == use.dtype && last.begin == use.begin &&
                      last.nbytes == use.nbytes &&
                      tree_.value(last.location).text() == tree_.value(use.location).text();
    if (same) return node;
  }
  uses_.push_back(use);
  node = tree_.add_bytes_in_tensor(kStorageFlag | static_cast<std::uint32_t>(uses_.size() - 1));
  return node;
}

NodeId TorchTensors::whole_storage(Value storage) {
  View view{};
  view.use = uses_[*storage.tensor() & ~kStorageFlag];
  view.dtype = view.use.dtype;
  if (view.dtype == kNoTorchDtype) view.dtype = torch_dtype_named("uint8");
  const TorchDtype& dtype = kTorchDtypes[view.dtype];
  if (is_quantized(dtype))
    view.dtype = torch_dtype_named(dtype.dtype == Dtype::i8    ? "int8"
                                   : dtype.dtype == Dtype::i32 ? "int32"
                                                               : "uint8");
  view.rank = 1;
  view.offset = view.use.begin / dtype.nbytes;  // whole elements, because views count in them
  view.sizes[0] = view.numel = view.use.nbytes / dtype.nbytes;
  view.strides[0] = 1;
  view.nbytes = view.numel * dtype.nbytes;
  view.contiguous = true;
  return tree_.add_tensor(add_view(view), attributes_of(view));
}

// Up to 0.3 a storage could be part of another. Tensors count from the part's beginning.
Result<NodeId> TorchTensors::name_view(NodeId root, const ViewText& text) {
  StorageUse use = uses_[*tree_.value(root).tensor() & ~kStorageFlag];
  const std::uint64_t unit = use.dtype == kNoTorchDtype ? 1 : kTorchDtypes[use.dtype].nbytes;
  const std::optional<std::uint64_t> first = as_count(text.first);
  const std::optional<std::uint64_t> count = as_count(text.count);
  if (text.key.kind() != Kind::string || text.key.text().empty() || !first || !count)
    return malformed_id("its view is not a tuple of a text and two non-negative ints");
  const std::uint64_t available = use.nbytes / unit;
  if (!in_bounds(*first, *count, available))
    return make_error(ErrorCode::tensor_out_of_storage, "the view ", quoted(text.key.text()),
                      " of ", *count, " elements from ", *first, " leaves storage ",
                      quoted(std::string_view(file_.storages[use.storage].key)), ", which has ",
                      available);
  use.begin += *first * unit;
  use.nbytes = *count * unit;
  FLATBED_TRY(check_view_key({std::string(text.key.text()), use.storage, use.begin, use.nbytes}));
  return add_use(use);
}

// A view's key always means the same part of the same storage, and is not a storage's key.
Result<void> TorchTensors::check_view_key(const StorageView& view) {
  const auto number = static_cast<std::uint32_t>(keys_.view_rows.size());
  const auto there = keys_.views.insert(view.key, number, [&](std::uint32_t n) {
    return std::string_view(n == number ? view.key : keys_.view_rows[n].key);
  });
  const StorageView& known = there ? keys_.view_rows[*there] : view;
  const bool same =
      known.storage == view.storage && known.begin == view.begin && known.nbytes == view.nbytes;
  if (!same || find_storage(view.key))
    return make_error(ErrorCode::storage_conflict, "the key ", quoted(view.key), " is a view of ",
                      view.nbytes, " bytes at byte ", view.begin, " of storage ",
                      quoted(std::string_view(file_.storages[view.storage].key)),
                      " here and something else before");
  if (!there) keys_.view_rows.push_back(view);
  return {};
}

std::optional<std::uint32_t> TorchTensors::find_storage(std::string_view key) const {
  return keys_.roots.find(key,
                          [&](std::uint32_t n) { return std::string_view(file_.storages[n].key); });
}

std::uint32_t TorchTensors::add_placed(TorchStorage storage) {
  file_.storages.push_back(std::move(storage));
  storage_dtypes_.push_back(kNoTorchDtype);
  first_views_.push_back(kNoTensor);
  units_.push_back(1);
  return static_cast<std::uint32_t>(file_.storages.size() - 1);
}

// The storage with this key. All descriptions of it must agree. (torch takes the first one and
// reads all tensors by it.)
Result<std::uint32_t> TorchTensors::add_storage(Value key, std::uint8_t dtype,
                                                std::uint64_t nbytes) {
  const auto number = static_cast<std::uint32_t>(file_.storages.size());
  const auto there =
      keys_.roots.insert(key.text(), number, [&](std::uint32_t n) -> std::string_view {
        return n == number ? key.text() : std::string_view(file_.storages[n].key);
      });
  const std::uint32_t unit =
      dtype == kNoTorchDtype || order_ == ByteOrder::little ? 1 : kTorchDtypes[dtype].unit;
  if (!there) {
    const auto view_named = [&](std::uint32_t n) {
      return std::string_view(keys_.view_rows[n].key);
    };
    if (keys_.views.find(key.text(), view_named))
      return make_error(ErrorCode::storage_conflict, "the key ", quoted(key.text()),
                        " is a storage here and was a view before");
    TorchStorage storage;
    storage.key = key.text();
    storage.nbytes = nbytes;
    storage.swap_unit = unit;
    add_placed(std::move(storage));
    storage_dtypes_.back() = dtype;
    units_.back() = dtype == kNoTorchDtype ? 1 : kTorchDtypes[dtype].nbytes;
    keys_.named.push_back(number);
    return number;
  }
  const TorchStorage& storage = file_.storages[*there];
  std::uint8_t& known = storage_dtypes_[*there];
  if (storage.nbytes != nbytes)
    return make_error(ErrorCode::storage_conflict, "storage ", quoted(key.text()), " has ", nbytes,
                      " bytes here and had ", storage.nbytes, " before");
  if (known != kNoTorchDtype && dtype != kNoTorchDtype && known != dtype)
    return make_error(ErrorCode::storage_conflict, "storage ", quoted(key.text()), " is a torch.",
                      kTorchDtypes[dtype].storage, " here and was a torch.",
                      kTorchDtypes[known].storage, " before");
  if (dtype != kNoTorchDtype && storage.swap_unit != unit)
    return make_error(ErrorCode::torch_unsupported, "storage ", quoted(key.text()),
                      " of a big-endian file is used both untyped and as torch.",
                      kTorchDtypes[dtype].storage);
  if (known == kNoTorchDtype) known = dtype;
  return *there;
}

Result<NodeId> TorchTensors::rebuild(Meaning function, Value arguments) {
  View view;
  FLATBED_TRY(read_view(function, arguments, view));
  if (is_quantized(kTorchDtypes[view.dtype]))
    return malformed_call("torch.", kTorchDtypes[view.dtype].name, " without a quantizer");
  FLATBED_TRY(read_flags(function, arguments, view));
  FLATBED_TRY(check_view(view));
  return tree_.add_tensor(add_view(view), attributes_of(view));
}

//   _rebuild_qtensor    (storage, offset, sizes, strides, quantizer, requires_grad, hooks)
Result<std::optional<NodeId>> TorchTensors::rebuild_quantized(Value arguments) {
  View view;
  FLATBED_TRY(read_view(Meaning::rebuild_qtensor, arguments, view));
  if (!is_quantized(kTorchDtypes[view.dtype]))
    return malformed_call("a quantized tensor of torch.", kTorchDtypes[view.dtype].name);
  FLATBED_TRY(check_quantizer(arguments.item(4), view.rank));
  const std::optional<bool> requires_grad = arguments.item(5).as_bool();
  if (!requires_grad) return malformed_call("requires_grad is not a bool");
  view.requires_grad = *requires_grad;
  view.quantizer = arguments.item(4).id();
  FLATBED_TRY(read_hooks(arguments.item(6)));
  if (kTorchDtypes[view.dtype].stored_as == StoredAs::sub_byte) {
    FLATBED_ASSIGN(const bool whole, to_bytes(view));
    if (!whole) return std::optional<NodeId>();
  }
  FLATBED_TRY(check_view(view));
  return std::optional(tree_.add_tensor(add_view(view), attributes_of(view)));
}

// torch rounds each row up to whole bytes. Returns false for a view that does not begin at the
// start of the storage or has strides of its own.
Result<bool> TorchTensors::to_bytes(View& view) const {
  const std::uint64_t in_byte = kTorchDtypes[view.dtype].name == "quint4x2" ? 2 : 4;
  const std::vector<std::uint64_t> sizes(
      view.sizes.begin(), view.sizes.begin() + static_cast<std::ptrdiff_t>(view.rank));
  std::optional<std::uint64_t> nbytes = 1;
  // Product of the dimensions so far, or none if it overflowed.
  std::optional<std::uint64_t> elements = 1;
  bool contiguous = view.offset == 0;
  for (std::size_t i = view.rank; i-- > 0;) {
    const bool last = i + 1 == view.rank;
    if (sizes[i] != 1) contiguous = contiguous && view.strides[i] == *elements;
    nbytes = checked_mul(*nbytes,
                         last ? sizes[i] / in_byte + (sizes[i] % in_byte != 0 ? 1 : 0) : sizes[i]);
    elements = checked_mul(*elements, std::max<std::uint64_t>(sizes[i], 1));
    if (!nbytes || !elements)
      return make_error(ErrorCode::size_overflow, "a tensor ",
                        shape_text(sizes.data(), sizes.size()), " does not fit 64 bits");
  }
  if (!contiguous && *nbytes != 0) return false;
  view.own_shape = sizes;
  view.rank = 1;
  view.offset = 0;
  view.sizes[0] = *nbytes;
  view.strides[0] = 1;
  return true;
}

//   _rebuild_tensor     (storage, offset, sizes, strides)
//   _rebuild_tensor_v2  (storage, offset, sizes, strides, requires_grad, hooks[, metadata])
//   _rebuild_tensor_v3  (storage, offset, sizes, strides, requires_grad, hooks, dtype[, metadata])
Result<void> TorchTensors::read_view(Meaning function, Value arguments, View& view) const {
  const std::size_t count = arguments.size();
  const bool fits = function == Meaning::rebuild_tensor      ? count == 4
                    : function == Meaning::rebuild_tensor_v2 ? count == 6 || count == 7
                    : function == Meaning::rebuild_qtensor   ? count == 7
                                                             : count == 7 || count == 8;
  if (!fits) return malformed_call(count, " arguments");
  const std::uint32_t number = arguments.item(0).tensor().value_or(0);
  if (arguments.item(0).kind() != Kind::bytes || (number & kStorageFlag) == 0)
    return malformed_call("the first argument is not a storage");
  view.use = uses_[number & ~kStorageFlag];
  // torch treats an untyped storage as bytes.
  view.dtype = view.use.dtype == kNoTorchDtype ? torch_dtype_named("uint8") : view.use.dtype;
  const std::optional<std::uint64_t> offset = as_count(arguments.item(1));
  if (!offset) return malformed_call("the offset is not a non-negative int");
  view.offset = *offset;
  FLATBED_ASSIGN(view.rank, read_counts(arguments.item(2), globals_, "sizes", view.sizes));
  FLATBED_ASSIGN(const std::size_t strides,
                 read_counts(arguments.item(3), globals_, "strides", view.strides));
  if (strides != view.rank) return malformed_call(view.rank, " sizes and ", strides, " strides");
  return {};
}

Result<void> TorchTensors::read_flags(Meaning function, Value arguments, View& view) {
  if (function == Meaning::rebuild_tensor) return {};
  const std::optional<bool> requires_grad = arguments.item(4).as_bool();
  if (!requires_grad) return malformed_call("requires_grad is not a bool");
  view.requires_grad = *requires_grad;
  FLATBED_TRY(read_hooks(arguments.item(5)));
  if (function == Meaning::rebuild_tensor_v3) FLATBED_TRY(read_v3_dtype(arguments.item(6), view));
  const std::size_t at = function == Meaning::rebuild_tensor_v3 ? 7 : 6;
  if (arguments.size() == at || arguments.item(at).kind() == Kind::none) return {};

  const Value metadata = arguments.item(at);
  if (metadata.kind() != Kind::dict) return malformed_call("the metadata are not a dict");
  for (std::size_t i = 0; i < metadata.size(); ++i) {
    const std::string_view name = metadata.key(i).text();
    if (name != "conj" && name != "neg")
      return make_error(ErrorCode::torch_unsupported, "tensor metadata ", quoted(name));
    const std::optional<bool> set = metadata.item(i).as_bool();
    if (!set) return malformed_call(name, " is not a bool");
    (name == "conj" ? view.conjugate : view.negate) = *set;
  }
  const TorchDtype& dtype = kTorchDtypes[view.dtype];
  if (view.conjugate && !dtype.complex)
    return malformed_call("a conjugate tensor of torch.", dtype.name);
  if (view.negate && !can_be_negated(dtype))
    return malformed_call("a negated tensor of torch.", dtype.name);
  return {};
}

Result<void> TorchTensors::read_v3_dtype(Value dtype, View& view) const {
  const TorchGlobal global = globals_.find(dtype.id());
  if (global.meaning != Meaning::dtype) {
    if (dtype.kind() != Kind::global) return malformed_call("the dtype is not a global");
    return make_error(ErrorCode::torch_unsupported, "dtype ",
                      quoted(str_cat(dtype.text(), ".", dtype.qualname())));
  }
  view.dtype = global.dtype;
  const TorchDtype& row = kTorchDtypes[global.dtype];
  if (is_quantized(row))
    return make_error(ErrorCode::torch_unsupported, "torch.", row.name, " without a quantizer");
  // torch swaps bytes by the dtype of the storage. Here it is untyped, so the order is unknown.
  if (order_ == ByteOrder::big && row.unit > 1)
    return make_error(ErrorCode::torch_unsupported, "torch.", row.name,
                      " in a big-endian file: its byte order is not recorded");
  return {};
}

// Hooks are code. None and an empty dict mean no hooks.
Result<void> TorchTensors::read_hooks(Value hooks) {
  const Kind kind = hooks.kind();
  if (kind == Kind::none) return {};
  if (kind != Kind::dict && kind != Kind::object) return malformed_call("the hooks are not a dict");
  if (hooks.size() != 0) ++dropped_hooks_;
  return {};
}

// Whether every element of the view lies in the storage. A view without elements reads nothing, so
// its place does not matter.
Result<void> TorchTensors::check_view(View& view) const {
  const TorchDtype& dtype = kTorchDtypes[view.dtype];
  const TorchStorage& storage = file_.storages[view.use.storage];
  const std::span<const std::uint64_t> sizes(view.sizes.data(), view.rank);
  const auto overflow = [&] {
    return make_error(ErrorCode::size_overflow, "a tensor ", shape_text(sizes.data(), sizes.size()),
                      " of torch.", dtype.name, " in storage ", quoted(storage.key),
                      " does not fit 64 bits");
  };
  // Of the dimensions that are not 0: no order of them may hide an overflow.
  std::optional<std::uint64_t> numel = 1;
  std::optional<std::uint64_t> last = view.offset;
  bool empty = false;
  for (std::size_t i = 0; i < view.rank; ++i) {
    empty = empty || sizes[i] == 0;
    numel = checked_mul(*numel, std::max<std::uint64_t>(sizes[i], 1));
    if (!numel) return overflow();
  }
  const std::optional<std::uint64_t> nbytes = checked_mul(*numel, dtype.nbytes);
  // Stored sizes stay below 2^63, even if the last one is doubled.
  if (!nbytes || *nbytes > INT64_MAX / 2) return overflow();
  view.numel = empty ? 0 : *numel;
  view.nbytes = empty ? 0 : *nbytes;
  view.contiguous = empty || is_contiguous(sizes, {view.strides.data(), view.rank});
  if (empty) return {};
  for (std::size_t i = 0; i < view.rank; ++i) {
    const std::optional<std::uint64_t> reach = checked_mul(sizes[i] - 1, view.strides[i]);
    last = reach ? checked_add(*last, *reach) : std::nullopt;
    if (!last) return overflow();
  }
  const std::uint64_t available = view.use.nbytes / dtype.nbytes;
  if (*last >= available)
    return make_error(ErrorCode::tensor_out_of_storage, "a tensor ",
                      shape_text(sizes.data(), sizes.size()), " at offset ", view.offset,
                      " reaches element ", *last, " of storage ", quoted(storage.key),
                      ", which has ", available);
  if (view.use.begin % dtype.nbytes != 0)
    return malformed_call("a tensor of torch.", dtype.name, " in a view at byte ", view.use.begin);
  view.offset += view.use.begin / dtype.nbytes;  // stays below the storage's own size
  return {};
}

// Equal views of one storage are one tensor.
std::uint32_t TorchTensors::add_view(const View& view) {
  const TorchDtype& dtype = kTorchDtypes[view.dtype];
  const bool doubled = dtype.stored_as == StoredAs::packed && view.rank != 0;
  const bool pair = dtype.stored_as == StoredAs::pair;
  LargeVector<std::uint64_t>& dims = file_.dims;
  const std::size_t begin = dims.size();
  dims.resize(begin + kKeyWords + 3 * view.rank + (pair ? 1 : 0));
  std::uint64_t* at = dims.data() + begin;
  *at++ = std::uint64_t{view.use.storage} << 32 | std::uint64_t{view.dtype} << 8 |
          (view.conjugate ? 2U : 0U) | (view.negate ? 1U : 0U);
  *at++ = view.offset;
  at = std::copy_n(view.sizes.data(), view.rank, at);
  // A stride of a dimension of size 1 is never used: views that differ only in one are equal.
  for (std::size_t i = 0; i < view.rank; ++i) *at++ = view.sizes[i] == 1 ? 1 : view.strides[i];
  at = std::copy_n(view.sizes.data(), view.rank, at);
  if (doubled) at[-1] *= 2;
  if (pair) *at = 2;

  TorchTensor tensor;
  tensor.storage = view.use.storage;
  tensor.dtype = dtype.stored_as == StoredAs::packed && !doubled ? Dtype::u8 : dtype.dtype;
  tensor.element_nbytes = dtype.nbytes;
  tensor.rank = static_cast<std::uint32_t>(view.rank);
  tensor.stored_rank = static_cast<std::uint32_t>(view.rank + (pair ? 1 : 0));
  tensor.dims = begin + kKeyWords;
  tensor.offset = view.offset;
  tensor.nbytes = view.nbytes;
  tensor.contiguous = view.contiguous;
  tensor.conjugate = view.conjugate;
  tensor.negate = view.negate;
  const auto number = static_cast<std::uint32_t>(file_.tensors.size());
  file_.tensors.push_back(tensor);
  if (view.numel == 0) return number;
  const std::optional<std::uint32_t> there = equal_view(number);
  if (!there) return number;
  file_.tensors.pop_back();
  dims.resize(begin);
  return *there;
}

// The earlier tensor with the same view of the same storage.
std::optional<std::uint32_t> TorchTensors::equal_view(std::uint32_t number) {
  std::uint32_t& first = first_views_[file_.tensors[number].storage];
  if (first == kNoTensor) {
    first = number;
    return std::nullopt;
  }
  if (view_key(first) == view_key(number)) return first;
  return later_views_.insert(view_key(number), number,
                             [this](std::uint32_t n) { return view_key(n); });
}

std::string_view TorchTensors::view_key(std::uint32_t number) const {
  const TorchTensor& tensor = file_.tensors[number];
  const std::span<const std::uint64_t> words =
      std::span(file_.dims)
          .subspan(tensor.dims - kKeyWords, kKeyWords + std::size_t{2} * tensor.rank);
  return as_text(std::as_bytes(words));
}

TensorAttributes TorchTensors::attributes_of(const View& view) const {
  const TorchDtype& dtype = kTorchDtypes[view.dtype];
  const std::string_view location = tree_.value(view.use.location).text();
  TensorAttributes attributes;
  attributes.requires_grad = view.requires_grad;
  if (location != "cpu") attributes.device = location;
  if (dtype.named || (dtype.stored_as == StoredAs::packed && view.rank == 0))
    attributes.dtype = dtype.name;
  if (!view.contiguous)
    attributes.stride.emplace(view.strides.begin(),
                              view.strides.begin() + static_cast<std::ptrdiff_t>(view.rank));
  attributes.shape = view.own_shape;
  attributes.quantizer = view.quantizer;
  return attributes;
}

Result<NodeId> TorchTensors::rebuild_parameter(Value tensor, Value arguments) {
  const std::optional<bool> requires_grad = arguments.item(1).as_bool();
  if (!requires_grad) return malformed_call("requires_grad is not a bool");
  FLATBED_TRY(read_hooks(arguments.item(2)));
  TensorAttributes attributes = tensor.attributes();
  attributes.parameter = true;
  attributes.requires_grad = *requires_grad;
  if (arguments.size() == 4 && arguments.item(3).kind() != Kind::none)
    attributes.state = arguments.item(3).id();
  return tree_.add_tensor(*tensor.tensor(), attributes);
}

}  // namespace flatbed::pth
