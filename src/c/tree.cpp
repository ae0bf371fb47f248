// Trees that are read, in flatbed.h: values, and the whole tree as JSON.
#include "base/str_cat.hpp"
#include "c/callbacks.hpp"
#include "c/checkpoints.hpp"
#include "c/guard.hpp"
#include "c/values.hpp"
#include "flatbed/tree_json.hpp"

namespace flatbed::c {

namespace {

static_assert(static_cast<int>(Kind::none) == FLATBED_KIND_NONE &&
              static_cast<int>(Kind::boolean) == FLATBED_KIND_BOOL &&
              static_cast<int>(Kind::integer) == FLATBED_KIND_INT &&
              static_cast<int>(Kind::big_integer) == FLATBED_KIND_BIG_INT &&
              static_cast<int>(Kind::real) == FLATBED_KIND_REAL &&
              static_cast<int>(Kind::string) == FLATBED_KIND_STRING &&
              static_cast<int>(Kind::bytes) == FLATBED_KIND_BYTES &&
              static_cast<int>(Kind::list) == FLATBED_KIND_LIST &&
              static_cast<int>(Kind::tuple) == FLATBED_KIND_TUPLE &&
              static_cast<int>(Kind::dict) == FLATBED_KIND_DICT &&
              static_cast<int>(Kind::global) == FLATBED_KIND_GLOBAL &&
              static_cast<int>(Kind::object) == FLATBED_KIND_OBJECT &&
              static_cast<int>(Kind::tensor) == FLATBED_KIND_TENSOR &&
              static_cast<int>(Kind::array) == FLATBED_KIND_ARRAY &&
              static_cast<int>(Kind::scalar) == FLATBED_KIND_SCALAR);
static_assert(kNoNode == FLATBED_NO_VALUE);

constexpr std::array<std::string_view, 15> kKindNames{
    "None",  "bool", "int",    "big int", "float",  "str",   "bytes", "list",
    "tuple", "dict", "global", "object",  "tensor", "array", "scalar"};

Error wrong_kind(Value value, std::string_view expected) {
  return make_error(ErrorCode::invalid_argument, "argument 'value': found a value of the kind ",
                    kKindNames[static_cast<std::size_t>(value.kind())], ", expected ", expected);
}

// The value as what `get` takes of it: an optional.
template <typename Out, typename Get>
Result<void> as(flatbed_value value, Out* out, std::string_view expected, Get get) {
  if (out == nullptr) return null_argument("out");
  FLATBED_TRY(check(value.tree, "value.tree"));
  const Value found = value_of(value);
  const auto got = get(found);
  if (!got) return wrong_kind(found, expected);
  *out = static_cast<Out>(*got);
  return {};
}

// What `get` takes of the value; zero, or an empty string, if there is no tree.
template <typename Get>
auto look_at(flatbed_value value, Get get) noexcept -> decltype(get(value_of(value))) {
  if (!is_handle(value.tree)) return {};
  return get(value_of(value));
}

// Another value of the same tree, which `get` returns.
template <typename Get>
flatbed_value look_for(flatbed_value value, Get get) noexcept {
  if (!is_handle(value.tree)) return to_c(nullptr, kNoNode);
  return to_c(value.tree, get(value_of(value)).id());
}

flatbed_tensor_attributes attributes_to_c(flatbed_value value, const TensorAttributes& from) {
  flatbed_tensor_attributes attributes{};
  attributes.device = to_c(std::string_view(from.device));
  attributes.dtype = to_c(std::string_view(from.dtype));
  if (from.stride) {
    attributes.has_stride = 1;
    attributes.stride = from.stride->data();
    attributes.stride_rank = from.stride->size();
  }
  if (from.shape) {
    attributes.has_shape = 1;
    attributes.shape = from.shape->data();
    attributes.shape_rank = from.shape->size();
  }
  attributes.quantizer = to_c(value.tree, from.quantizer);
  attributes.state = to_c(value.tree, from.state);
  attributes.requires_grad = from.requires_grad ? 1 : 0;
  attributes.parameter = from.parameter ? 1 : 0;
  return attributes;
}

}  // namespace

}  // namespace flatbed::c

using flatbed::Result;
using flatbed::Value;
using flatbed::c::guarded;
using flatbed::c::is_handle;
using flatbed::c::look_at;
using flatbed::c::look_for;
using flatbed::c::to_c;
using flatbed::c::value_of;

uint32_t flatbed_has_tree(const flatbed_checkpoint* checkpoint) {
  return is_handle(checkpoint) && checkpoint->checkpoint.has_tree() ? 1 : 0;
}

int32_t flatbed_tree_of(const flatbed_checkpoint* checkpoint, flatbed_tree** out,
                        flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(flatbed::c::clear_out(out));
    FLATBED_TRY(flatbed::c::check(checkpoint, "checkpoint"));
    auto handle = std::make_unique<flatbed_tree>();
    FLATBED_ASSIGN(handle->tree, flatbed::tree_of(checkpoint->checkpoint));
    *out = handle.release();
    return {};
  });
}

void flatbed_tree_free(flatbed_tree* tree) { flatbed::c::free_handle(tree); }

flatbed_value flatbed_tree_root(const flatbed_tree* tree) {
  if (!is_handle(tree)) return to_c(nullptr, FLATBED_NO_VALUE);
  return to_c(tree, tree->tree.root().id());
}

uint32_t flatbed_value_kind(flatbed_value value) {
  return look_at(value, [](Value at) { return static_cast<uint32_t>(at.kind()); });
}

uint64_t flatbed_value_size(flatbed_value value) {
  return look_at(value, [](Value at) { return uint64_t{at.size()}; });
}

flatbed_value flatbed_value_key(flatbed_value value, uint64_t index) {
  return look_for(value, [&](Value at) { return at.key(index); });
}

flatbed_value flatbed_value_item(flatbed_value value, uint64_t index) {
  return look_for(value, [&](Value at) { return at.item(index); });
}

flatbed_string flatbed_value_text(flatbed_value value) {
  return look_at(value, [](Value at) { return to_c(at.text()); });
}

flatbed_string flatbed_value_qualname(flatbed_value value) {
  return look_at(value, [](Value at) { return to_c(at.qualname()); });
}

flatbed_string flatbed_value_raw(flatbed_value value) {
  return look_at(value, [](Value at) { return to_c(at.raw()); });
}

flatbed_value flatbed_value_callable(flatbed_value value) {
  return look_for(value, [](Value at) { return at.callable(); });
}

flatbed_value flatbed_value_arguments(flatbed_value value) {
  return look_for(value, [](Value at) { return at.arguments(); });
}

uint64_t flatbed_value_appended_size(flatbed_value value) {
  return look_at(value, [](Value at) { return uint64_t{at.appended_size()}; });
}

flatbed_value flatbed_value_appended(flatbed_value value, uint64_t index) {
  return look_for(value, [&](Value at) { return at.appended(index); });
}

flatbed_value flatbed_value_state(flatbed_value value) {
  return look_for(value, [](Value at) { return at.state().value_or(at.node(flatbed::kNoNode)); });
}

int32_t flatbed_value_bool(flatbed_value value, uint32_t* out, flatbed_error* error) {
  return guarded(error, [&]() {
    return flatbed::c::as(value, out, "bool", [](Value found) { return found.as_bool(); });
  });
}

int32_t flatbed_value_int(flatbed_value value, int64_t* out, flatbed_error* error) {
  return guarded(error, [&]() {
    return flatbed::c::as(value, out, "int", [](Value found) { return found.as_int(); });
  });
}

int32_t flatbed_value_real(flatbed_value value, double* out, flatbed_error* error) {
  return guarded(error, [&]() {
    return flatbed::c::as(value, out, "float or int", [](Value found) { return found.as_real(); });
  });
}

int32_t flatbed_value_tensor(flatbed_value value, uint64_t* out, flatbed_error* error) {
  return guarded(error, [&]() {
    return flatbed::c::as(value, out, "tensor, array or bytes in a tensor",
                          [](Value found) { return found.tensor(); });
  });
}

int32_t flatbed_value_at(flatbed_value value, flatbed_string path, flatbed_value* out,
                         flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    if (out == nullptr) return flatbed::c::null_argument("out");
    FLATBED_TRY(flatbed::c::check(value.tree, "value.tree"));
    FLATBED_ASSIGN(const std::string_view text, flatbed::c::read_string(path, "path"));
    FLATBED_ASSIGN(const Value found, value_of(value).at(text));
    *out = to_c(value.tree, found.id());
    return {};
  });
}

int32_t flatbed_value_attributes(flatbed_value value, flatbed_tensor_attributes* out,
                                 flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(flatbed::c::check_report(out, "out"));
    FLATBED_TRY(flatbed::c::check(value.tree, "value.tree"));
    const Value found = value_of(value);
    if (found.kind() != flatbed::Kind::tensor) return flatbed::c::wrong_kind(found, "tensor");
    flatbed::c::fill_report(flatbed::c::attributes_to_c(value, found.attributes()), out);
    return {};
  });
}

int32_t flatbed_tree_json(const flatbed_checkpoint* checkpoint,
                          int32_t (*write)(void* context, flatbed_string text), void* context,
                          flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(flatbed::c::check(checkpoint, "checkpoint"));
    if (write == nullptr) return flatbed::c::null_argument("write");
    FLATBED_ASSIGN(const std::string json, flatbed::tree_json(checkpoint->checkpoint));
    return flatbed::c::callback_result(write(context, to_c(std::string_view(json))),
                                       "the caller's write", flatbed::ErrorCode::cancelled);
  });
}
