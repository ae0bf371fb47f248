// What is in a checkpoint, in flatbed.h: tensors, aliases, metadata, notes, files.
#include "c/checkpoints.hpp"
#include "c/guard.hpp"

namespace flatbed::c {

namespace {

static_assert(static_cast<int>(Stored::plain) == FLATBED_STORED_PLAIN &&
              static_cast<int>(Stored::strided) == FLATBED_STORED_STRIDED &&
              static_cast<int>(Stored::byteswapped) == FLATBED_STORED_BYTESWAPPED &&
              static_cast<int>(Stored::deflated) == FLATBED_STORED_DEFLATED &&
              static_cast<int>(Stored::held) == FLATBED_STORED_HELD &&
              static_cast<int>(Stored::computed) == FLATBED_STORED_COMPUTED);
static_assert(static_cast<int>(SealState::unsealed) == FLATBED_SEAL_UNSEALED &&
              static_cast<int>(SealState::sealed) == FLATBED_SEAL_SEALED &&
              static_cast<int>(SealState::annotated) == FLATBED_SEAL_ANNOTATED &&
              static_cast<int>(SealState::newer) == FLATBED_SEAL_NEWER &&
              static_cast<int>(SealState::broken) == FLATBED_SEAL_BROKEN);
static_assert(static_cast<int>(Layout::safetensors) == FLATBED_LAYOUT_SAFETENSORS &&
              static_cast<int>(Layout::torch_zip) == FLATBED_LAYOUT_TORCH_ZIP &&
              static_cast<int>(Layout::torch_legacy) == FLATBED_LAYOUT_TORCH_LEGACY &&
              static_cast<int>(Layout::torch_tar) == FLATBED_LAYOUT_TORCH_TAR &&
              static_cast<int>(Layout::torch_pickle) == FLATBED_LAYOUT_TORCH_PICKLE &&
              static_cast<int>(Layout::torch_script) == FLATBED_LAYOUT_TORCH_SCRIPT);

flatbed_file file_to_c(const FileInfo& info) {
  flatbed_file file{};
  file.path = to_c(std::string_view(info.path.native()));
  file.nbytes = info.nbytes;
  file.content = to_c(std::string_view(info.content));
  file.seal_note = to_c(std::string_view(info.seal_note));
  file.seal = static_cast<std::uint32_t>(info.seal);
  file.seal_error = info.seal_error ? static_cast<std::int32_t>(*info.seal_error) : 0;
  file.sidecar = info.sidecar ? 1 : 0;
  return file;
}

// Element `index` of a list that `list` takes from a checkpoint.
template <typename List>
auto element(const flatbed_checkpoint* checkpoint, std::uint64_t index, List list)
    -> Result<const typename decltype(list(checkpoint->checkpoint))::element_type*> {
  FLATBED_TRY(check(checkpoint, "checkpoint"));
  const auto elements = list(checkpoint->checkpoint);
  if (index >= elements.size()) return index_error(index, elements.size(), "index");
  return &elements[index];
}

// Where a caller wants a string.
struct OutString {
  flatbed_string* out;
  std::string_view parameter;
};

// Element `index` of a list of pairs of strings.
template <typename List>
Result<void> pair_at(const flatbed_checkpoint* checkpoint, std::uint64_t index,
                     const std::array<OutString, 2>& out, List list) {
  for (const OutString& string : out) {
    if (string.out == nullptr) return null_argument(string.parameter);
  }
  FLATBED_ASSIGN(const auto* const found, element(checkpoint, index, list));
  const auto& [first, second] = *found;
  *out[0].out = to_c(std::string_view(first));
  *out[1].out = to_c(std::string_view(second));
  return {};
}

}  // namespace

flatbed_tensor tensor_to_c(const TensorInfo& info) {
  flatbed_tensor tensor{};
  tensor.name = to_c(info.name);
  tensor.shape = info.shape.data();
  tensor.rank = info.shape.size();
  tensor.nbytes = info.nbytes;
  tensor.index = info.index;
  tensor.dtype = dtype_number(info.dtype);
  tensor.stored = static_cast<std::uint32_t>(info.stored);
  tensor.storage = info.storage;
  tensor.file = info.where.file;
  tensor.file_offset = info.where.offset;
  tensor.file_nbytes = info.where.nbytes;
  if (!info.digests.empty()) {
    tensor.digests = {info.digests.hex(0).data(), info.digests.size() * 16};
  }
  return tensor;
}

}  // namespace flatbed::c

using flatbed::Checkpoint;
using flatbed::Result;
using flatbed::TensorInfo;
using flatbed::c::check_report;
using flatbed::c::fill_report;
using flatbed::c::guarded;
using flatbed::c::is_handle;
using flatbed::c::to_c;

uint64_t flatbed_tensor_count(const flatbed_checkpoint* checkpoint) {
  return is_handle(checkpoint) ? checkpoint->checkpoint.tensors().size() : 0;
}

int32_t flatbed_tensor_at(const flatbed_checkpoint* checkpoint, uint64_t index, flatbed_tensor* out,
                          flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(check_report(out, "out"));
    FLATBED_ASSIGN(const TensorInfo info, flatbed::c::tensor_at(checkpoint, index, "index"));
    fill_report(flatbed::c::tensor_to_c(info), out);
    return {};
  });
}

int32_t flatbed_tensor_find(const flatbed_checkpoint* checkpoint, flatbed_string name,
                            flatbed_tensor* out, flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(check_report(out, "out"));
    FLATBED_TRY(flatbed::c::check(checkpoint, "checkpoint"));
    FLATBED_ASSIGN(const std::string_view text, flatbed::c::read_string(name, "name"));
    FLATBED_ASSIGN(const TensorInfo info, checkpoint->checkpoint.tensor(text));
    fill_report(flatbed::c::tensor_to_c(info), out);
    return {};
  });
}

uint64_t flatbed_alias_count(const flatbed_checkpoint* checkpoint) {
  return is_handle(checkpoint) ? checkpoint->checkpoint.aliases().size() : 0;
}

int32_t flatbed_alias_at(const flatbed_checkpoint* checkpoint, uint64_t index, flatbed_string* name,
                         flatbed_string* tensor, flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    return flatbed::c::pair_at(checkpoint, index, {{{name, "name"}, {tensor, "tensor"}}},
                               [](const Checkpoint& opened) { return opened.aliases(); });
  });
}

uint64_t flatbed_metadata_count(const flatbed_checkpoint* checkpoint) {
  return is_handle(checkpoint) ? checkpoint->checkpoint.metadata().size() : 0;
}

int32_t flatbed_metadata_at(const flatbed_checkpoint* checkpoint, uint64_t index,
                            flatbed_string* key, flatbed_string* value, flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    return flatbed::c::pair_at(checkpoint, index, {{{key, "key"}, {value, "value"}}},
                               [](const Checkpoint& opened) { return opened.metadata(); });
  });
}

uint64_t flatbed_note_count(const flatbed_checkpoint* checkpoint) {
  return is_handle(checkpoint) ? checkpoint->checkpoint.notes().size() : 0;
}

int32_t flatbed_note_at(const flatbed_checkpoint* checkpoint, uint64_t index, flatbed_string* note,
                        flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    if (note == nullptr) return flatbed::c::null_argument("note");
    const auto notes = [](const Checkpoint& opened) { return opened.notes(); };
    FLATBED_ASSIGN(const std::string* const text, flatbed::c::element(checkpoint, index, notes));
    *note = to_c(std::string_view(*text));
    return {};
  });
}

uint64_t flatbed_file_count(const flatbed_checkpoint* checkpoint) {
  return is_handle(checkpoint) ? checkpoint->checkpoint.files().size() : 0;
}

int32_t flatbed_file_at(const flatbed_checkpoint* checkpoint, uint64_t index, flatbed_file* out,
                        flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(check_report(out, "out"));
    const auto files = [](const Checkpoint& opened) { return opened.files(); };
    FLATBED_ASSIGN(const flatbed::FileInfo* const file,
                   flatbed::c::element(checkpoint, index, files));
    fill_report(flatbed::c::file_to_c(*file), out);
    return {};
  });
}

uint32_t flatbed_layout(const flatbed_checkpoint* checkpoint) {
  return is_handle(checkpoint) ? static_cast<uint32_t>(checkpoint->checkpoint.layout()) : 0;
}

uint32_t flatbed_seal(const flatbed_checkpoint* checkpoint) {
  return is_handle(checkpoint) ? static_cast<uint32_t>(checkpoint->checkpoint.seal()) : 0;
}
