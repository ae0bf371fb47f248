// Opening one file: safetensors with its seal or sidecar, or a PyTorch file of any layout.
#include <memory>

#include "base/bytes.hpp"
#include "base/json.hpp"
#include "base/str_cat.hpp"
#include "checkpoint/checkpoint_state.hpp"
#include "torch/torch_pickle.hpp"
#include "torch/torch_tar.hpp"
#include "value/tensor_names.hpp"
#include "value/tree_json.hpp"

namespace flatbed {

using safetensors::MetadataPair;
using safetensors::SealTensor;
using safetensors::SealVerdict;

namespace {

constexpr JsonRules kSidecarRules{ErrorCode::sidecar_malformed, ErrorCode::sidecar_malformed,
                                  ErrorCode::sidecar_malformed, ErrorCode::sidecar_malformed, 8};

std::vector<SealTensor> seal_tensors(const OpenFile& open) {
  std::vector<SealTensor> tensors;
  tensors.reserve(open.tensors.size());
  for (const TensorInfo& tensor : open.tensors) {
    tensors.push_back({tensor.name, tensor.dtype, tensor.shape, tensor.nbytes});
  }
  return tensors;
}

const TensorInfo* find_tensor(const OpenFile& open, std::string_view name) {
  const auto name_of = [&](std::uint32_t number) { return open.tensors[number].name; };
  const std::optional<std::uint32_t> number = open.header->names.find(name, name_of);
  return number ? &open.tensors[*number] : nullptr;
}

// The texts of a sidecar, parsed. Views point into `json`.
struct Sidecar {
  JsonDocument json;
  std::vector<MetadataPair> pairs;
};

Result<Sidecar> parse_sidecar(std::string_view text) {
  const auto wrong = [](const auto&... parts) {
    return make_error(ErrorCode::sidecar_malformed, parts...);
  };
  FLATBED_ASSIGN(JsonDocument json, JsonDocument::parse_copy(text, kSidecarRules));
  const JsonValue root = json.root();
  if (!root.is_object()) return wrong("the sidecar is not a JSON object");
  std::vector<MetadataPair> pairs;
  for (JsonValue key = root.first(); !key.at_end();) {
    const JsonValue value = key.member();
    const bool known =
        key.text() == safetensors::kSealKey || key.text() == safetensors::kDigestsKey;
    if (!known || !value.is_string())
      return wrong("the sidecar's member ", quoted(key.text()), " is none of a seal's");
    for (const MetadataPair& pair : pairs) {
      if (pair.first == key.text()) return wrong("the sidecar has ", quoted(key.text()), " twice");
    }
    pairs.emplace_back(key.text(), value.text());
    key = value.next();
  }
  if (pairs.size() != 2) return wrong("the sidecar lacks flatbed or flatbed.digests");
  return Sidecar{std::move(json), std::move(pairs)};
}

std::filesystem::path sidecar_path(const std::filesystem::path& path) {
  std::filesystem::path sidecar = path;
  sidecar += safetensors::kSidecarSuffix;
  return sidecar;
}

// The sidecar's text, or nothing when there is none.
Result<std::optional<std::string>> read_sidecar(const std::filesystem::path& path) {
  Result<File> file = File::open(sidecar_path(path));
  if (!file && file.error().code == ErrorCode::file_not_found) return std::optional<std::string>();
  if (!file) return std::move(file).error();
  if (file->size() > safetensors::kMaxSidecarBytes) {
    return make_error(ErrorCode::sidecar_malformed, "the sidecar has ", file->size(),
                      " bytes, at most ", safetensors::kMaxSidecarBytes, " are allowed");
  }
  std::string text(static_cast<std::size_t>(file->size()), '\0');
  FLATBED_TRY(file->read_at(0, std::as_writable_bytes(std::span(text))));
  return std::optional(std::move(text));
}

void apply_verdict(const SealVerdict& verdict, OpenFile& open) {
  open.info.seal = verdict.state;
  open.info.content = verdict.content;
  open.info.seal_note = verdict.note;
  open.info.seal_error = verdict.error;
  for (std::size_t i = 0; i < verdict.digests.size(); ++i) {
    open.tensors[i].digests = DigestView(verdict.digests[i]);
  }
}

// S6, C1 to C3: an embedded seal wins, a sidecar counts only where no flatbed key is in the file.
Result<void> judge(OpenFile& open, CheckSeal wanted) {
  const safetensors::Header& header = *open.header;
  bool embedded = false;
  for (const MetadataPair& pair : header.metadata) {
    if (!safetensors::is_seal_key(pair.first)) continue;
    embedded = true;
    open.seal_pairs.push_back(pair);
  }
  Result<std::optional<std::string>> text = read_sidecar(open.file.path());
  if (embedded) {
    if (text && *text)
      open.notes.emplace_back("a sidecar is ignored: the file carries its own seal");
    apply_verdict(safetensors::judge_seal(header.raw(), header.metadata, seal_tensors(open)), open);
    return {};
  }
  if (text && !*text) return {};
  open.info.sidecar = true;
  Result<Sidecar> sidecar = text ? parse_sidecar(**text) : Result<Sidecar>(std::move(text).error());
  if (!sidecar) {
    if (wanted != CheckSeal::off) return with_context("the sidecar", std::move(sidecar).error());
    open.info.seal = SealState::broken;
    open.info.seal_error = sidecar.error().code;
    open.info.seal_note = sidecar.error().message;
    return {};
  }
  open.sidecar_json.emplace(std::move(sidecar->json));
  open.seal_pairs = std::move(sidecar->pairs);
  apply_verdict(safetensors::judge_sidecar(header.raw(), open.seal_pairs, seal_tensors(open)),
                open);
  return {};
}

// A3: in an unsealed file, metadata[name] = tensor is the reference library's way to write an
// alias.
void read_unsealed_aliases(OpenFile& open) {
  const auto& pairs = open.header->metadata;
  for (const MetadataPair& pair : pairs) {
    if (pair.first == "tensor_names")
      return;  // torchao uses tensor names as keys for something else
  }
  for (const auto& [key, value] : pairs) {
    if (key == "format" || find_tensor(open, key) != nullptr || find_tensor(open, value) == nullptr)
      continue;
    open.aliases.push_back({std::string(key), std::string(value)});
  }
}

TensorInfo describe(const pth::TorchFile& torch, const pth::TorchTensor& tensor) {
  TensorInfo info;
  info.dtype = tensor.dtype;
  info.nbytes = tensor.nbytes;
  info.shape =
      std::span(torch.dims).subspan(tensor.dims + std::size_t{tensor.rank} * 2, tensor.stored_rank);
  if (tensor.storage == pth::kNoStorage) {
    info.stored = Stored::held;
    info.storage = static_cast<std::uint32_t>(torch.storages.size()) + tensor.held;
    return info;
  }
  const pth::TorchStorage& storage = torch.storages[tensor.storage];
  info.storage = tensor.storage;
  const bool views = !tensor.contiguous || tensor.conjugate || tensor.negate;
  if (storage.held != pth::kNotHeld) {
    info.stored = views ? Stored::strided : Stored::held;
    return info;
  }
  info.where = {0, storage.stored_offset, storage.stored_nbytes};
  if (storage.deflated) {
    info.stored = Stored::deflated;
  } else if (views) {
    info.stored = Stored::strided;
  } else if (storage.swap_unit > 1) {
    info.stored = Stored::byteswapped;
  } else {
    // Where a tensor without elements would begin was never checked.
    const std::uint64_t skip = tensor.nbytes == 0 ? 0 : tensor.offset * tensor.element_nbytes;
    info.where = {0, storage.stored_offset + skip, tensor.nbytes};
  }
  return info;
}

}  // namespace

std::optional<std::string_view> OpenFile::sealed_value(std::string_view key) const {
  if (info.seal != SealState::sealed && info.seal != SealState::annotated) return std::nullopt;
  for (const MetadataPair& pair : seal_pairs) {
    if (pair.first == key) return pair.second;
  }
  return std::nullopt;
}

Result<void> check_seal(const FileInfo& info, CheckSeal wanted) {
  if (wanted == CheckSeal::off) return {};
  if (info.seal == SealState::broken) return Error{*info.seal_error, info.seal_note};
  if (wanted == CheckSeal::if_sealed) return {};
  if (info.seal == SealState::unsealed)
    return make_error(ErrorCode::not_sealed, "the file is not sealed");
  if (info.seal == SealState::newer) return Error{ErrorCode::seal_newer, info.seal_note};
  return {};
}

Result<std::unique_ptr<OpenFile>> open_safetensors(File file, const OpenOptions& options) {
  auto open = std::make_unique<OpenFile>(std::move(file));
  open->info.path = open->file.path();
  open->info.nbytes = open->file.size();
  FLATBED_ASSIGN(open->header, safetensors::read_header(open->file));
  open->tensors = std::move(open->header->tensors);
  FLATBED_TRY(judge(*open, options.check_seal));
  FLATBED_TRY(check_seal(open->info, options.check_seal));
  if (open->info.seal == SealState::unsealed) read_unsealed_aliases(*open);
  return open;
}

Layout layout_of(const OpenFile& open) {
  if (!open.torch) return Layout::safetensors;
  switch (open.torch->layout) {
    case pth::TorchLayout::legacy:
      return Layout::torch_legacy;
    case pth::TorchLayout::tar:
      return Layout::torch_tar;
    case pth::TorchLayout::pickle:
      return Layout::torch_pickle;
    case pth::TorchLayout::script:
      return Layout::torch_script;
    case pth::TorchLayout::zip:
      break;
  }
  return Layout::torch_zip;
}

namespace {

std::string uninitialized_note(const TensorNames& names) {
  std::string text = str_cat(
      names.uninitialized_count,
      names.uninitialized_count == 1 ? " parameter or buffer has" : " parameters or buffers have",
      " no values, as the lazy module did not run before it was saved: ");
  for (std::size_t i = 0; i < names.uninitialized.size(); ++i)
    text += str_cat(i == 0 ? "" : ", ", quoted(names.uninitialized[i]));
  return names.uninitialized_count == names.uninitialized.size() ? text : str_cat(text, ", ...");
}

}  // namespace

Result<std::unique_ptr<OpenFile>> open_torch(File file, Content content) {
  auto open = std::make_unique<OpenFile>(std::move(file));
  open->info.path = open->file.path();
  open->info.nbytes = open->file.size();
  FLATBED_ASSIGN(open->torch, content == Content::zip   ? pth::read_torch_zip(open->file)
                              : content == Content::tar ? pth::read_torch_tar(open->file)
                                                        : pth::read_torch_pickle(open->file));
  pth::TorchFile& torch = *open->torch;
  open->torch_reader.emplace(open->file, torch);
  FLATBED_ASSIGN(TensorNames names, name_tensors(torch.tree, torch.tensors.size()));
  std::vector<std::uint32_t> numbers(torch.tensors.size());
  open->names = std::move(names.names);
  open->names_index = std::move(names.index);
  open->aliases = std::move(names.aliases);
  open->torch_tensor = std::move(names.order);
  open->tensors.reserve(open->names.size());
  for (std::uint32_t i = 0; i < open->names.size(); ++i) {
    TensorInfo info = describe(torch, torch.tensors[open->torch_tensor[i]]);
    info.name = open->names[i];
    info.index = i;
    numbers[open->torch_tensor[i]] = i;
    open->tensors.push_back(info);
  }
  torch.tree.renumber_tensors(numbers);
  open->notes = torch.notes;
  if (names.uninitialized_count != 0) open->notes.push_back(uninitialized_note(names));
  return open;
}

Result<Checkpoint> checkpoint_of(std::unique_ptr<OpenFile> file, Layout layout) {
  auto state = std::make_shared<CheckpointAccess::State>();
  OpenFile& open = *file;
  state->layout = layout;
  state->seal = open.info.seal;
  state->files.push_back(open.info);
  state->tensors = std::move(open.tensors);
  state->aliases = std::move(open.aliases);
  state->notes = std::move(open.notes);
  if (open.header) {
    state->index = std::move(open.header->names);
    state->metadata = open.header->metadata;
    state->tree_text = open.sealed_value("flatbed.tree");
    state->aliases_text = open.sealed_value("flatbed.aliases");
  } else {
    state->index = std::move(open.names_index);
    state->tree.emplace(std::move(open.torch->tree));
  }
  state->has_tree = state->tree_text || state->tree;
  FLATBED_TRY(state->build_index());
  state->opened.push_back(std::move(file));
  return CheckpointAccess::make(std::move(state));
}

}  // namespace flatbed
