#include "safetensors/safetensors_container.hpp"

#include <utility>

#include "base/bytes.hpp"
#include "base/str_cat.hpp"
#include "io/file.hpp"
#include "io/guarded_source.hpp"
#include "io/read_text.hpp"

namespace flatbed::safetensors {

namespace {

constexpr JsonRules kSidecarRules{ErrorCode::sidecar_malformed, ErrorCode::sidecar_malformed,
                                  ErrorCode::sidecar_malformed, ErrorCode::sidecar_malformed, 8};

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
    const bool known = key.text() == kSealKey || key.text() == kDigestsKey;
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

// The source of the sidecar, whose path or name this is.
Result<std::shared_ptr<const ByteSource>> open_sidecar(const std::filesystem::path& sidecar,
                                                       const SourceFolder* folder) {
  if (folder != nullptr) {
    FLATBED_ASSIGN(std::shared_ptr<const ByteSource> source, folder->open(sidecar.native()));
    return GuardedSource::wrap(std::move(source));
  }
  FLATBED_ASSIGN(File file, File::open(sidecar));
  return std::shared_ptr<const ByteSource>(std::make_shared<const File>(std::move(file)));
}

// The text of the sidecar, or nothing when there is none.
Result<std::optional<std::string>> read_sidecar(const ContainerOptions& options) {
  if (options.path.empty()) return std::optional<std::string>();
  std::filesystem::path sidecar = options.path;
  sidecar += kSidecarSuffix;
  const auto file = open_sidecar(sidecar, options.folder);
  if (!file && file.error().code == ErrorCode::file_not_found) return std::optional<std::string>();
  if (!file && file.error().code == ErrorCode::not_a_regular_file)
    return make_error(ErrorCode::sidecar_malformed, file.error().message);
  if (!file) return file.error();
  constexpr TextLimit kLimit{kMaxSidecarBytes, "the sidecar", ErrorCode::sidecar_malformed};
  FLATBED_ASSIGN(std::string text, read_text(**file, kLimit));
  return std::optional(std::move(text));
}

// "weight" of "model.0.weight".
std::string_view last_component(std::string_view name) { return name.substr(name.rfind('.') + 1); }

// Errors when more is demanded than this seal gives.
Result<void> check_seal(const FileInfo& info, CheckSeal demanded) {
  if (demanded == CheckSeal::off) return {};
  if (info.seal == SealState::broken) return Error{*info.seal_error, info.seal_note};
  if (demanded == CheckSeal::if_sealed) return {};
  if (info.seal == SealState::unsealed)
    return make_error(ErrorCode::not_sealed, "the file is not sealed");
  if (info.seal == SealState::newer) return Error{ErrorCode::seal_newer, info.seal_note};
  return {};
}

}  // namespace

Result<std::unique_ptr<Container>> SafetensorsContainer::open(
    std::shared_ptr<const ByteSource> source, const ContainerOptions& options) {
  auto opened = std::make_unique<SafetensorsContainer>(std::move(source));
  ContainerContents& contents = opened->contents();
  FLATBED_ASSIGN(opened->header_, read_header(opened->source(), options.set));
  contents.tensors = std::move(opened->header_->tensors);
  contents.index = std::move(opened->header_->names);
  contents.metadata = opened->header_->metadata;
  contents.storages = static_cast<std::uint32_t>(contents.tensors.size());
  FLATBED_TRY(opened->judge(options));
  FLATBED_TRY(check_seal(contents.info, options.check_seal));
  if (contents.info.seal == SealState::unsealed) opened->read_unsealed_aliases();
  opened->take_sealed_texts();
  opened->header_->bytes = ByteBuffer();
  return std::unique_ptr<Container>(std::move(opened));
}

Result<ByteBuffer> SafetensorsContainer::read_raw_header() const {
  ByteBuffer bytes(static_cast<std::size_t>(header_->nbytes));
  FLATBED_TRY(source().read_at(0, bytes));
  return bytes;
}

// S6, C1 to C3: an embedded seal wins, a sidecar counts only where no flatbed key is in the file.
Result<void> SafetensorsContainer::judge(const ContainerOptions& options) {
  FileInfo& info = contents().info;
  bool embedded = false;
  for (const MetadataPair& pair : header_->metadata) {
    if (!is_seal_key(pair.first)) continue;
    embedded = true;
    seal_pairs_.push_back(pair);
  }
  // In a folder elsewhere each look costs a request, and a sidecar would change nothing.
  if (embedded && options.folder != nullptr) {
    apply(judge_seal(header_->raw(), header_->metadata, seal_tensors()));
    return {};
  }
  Result<std::optional<std::string>> text = read_sidecar(options);
  if (embedded) {
    if (text && *text)
      contents().notes.emplace_back("a sidecar is ignored: the file carries its own seal");
    apply(judge_seal(header_->raw(), header_->metadata, seal_tensors()));
    return {};
  }
  if (text && !*text) return {};
  // Servers that may not list what they have say the same of files that are not there.
  if (!text && options.folder != nullptr && text.error().code == ErrorCode::permission_denied) {
    contents().notes.push_back(
        str_cat("there is no sidecar, or it may not be read: ", text.error().message));
    return {};
  }
  info.sidecar = true;
  Result<Sidecar> sidecar = text ? parse_sidecar(**text) : Result<Sidecar>(std::move(text).error());
  if (!sidecar) {
    if (options.check_seal != CheckSeal::off)
      return with_context("the sidecar", std::move(sidecar).error());
    info.seal = SealState::broken;
    info.seal_error = sidecar.error().code;
    info.seal_note = sidecar.error().message;
    return {};
  }
  sidecar_json_.emplace(std::move(sidecar->json));
  seal_pairs_ = std::move(sidecar->pairs);
  apply(judge_sidecar(header_->raw(), seal_pairs_, seal_tensors()));
  return {};
}

std::vector<SealTensor> SafetensorsContainer::seal_tensors() {
  std::vector<SealTensor> tensors;
  tensors.reserve(contents().tensors.size());
  for (const TensorInfo& tensor : contents().tensors) {
    tensors.push_back({tensor.name, tensor.dtype, tensor.shape, tensor.nbytes});
  }
  return tensors;
}

void SafetensorsContainer::apply(const SealVerdict& verdict) {
  FileInfo& info = contents().info;
  info.seal = verdict.state;
  info.content = verdict.content;
  info.seal_note = verdict.note;
  info.seal_error = verdict.error;
  for (std::size_t i = 0; i < verdict.digests.size(); ++i) {
    contents().tensors[i].digests = DigestView(verdict.digests[i]);
  }
}

// Only a seal vouches for a tree and for aliases.
void SafetensorsContainer::take_sealed_texts() {
  const SealState seal = contents().info.seal;
  if (seal != SealState::sealed && seal != SealState::annotated) return;
  for (const MetadataPair& pair : seal_pairs_) {
    if (pair.first == "flatbed.tree") contents().tree_text = pair.second;
    if (pair.first == "flatbed.aliases") contents().aliases_text = pair.second;
  }
}

// A3: in an unsealed file, metadata[name] = tensor is the reference library's way to write an
// alias. It keeps one of the tensors that share memory, and nearly always these are the same
// parameter of two modules. Any other text that equals a tensor's name is only a text.
void SafetensorsContainer::read_unsealed_aliases() {
  for (const MetadataPair& pair : header_->metadata) {
    // torchao uses tensor names as keys for something else.
    if (pair.first == "tensor_names") return;
  }
  for (const auto& [key, value] : header_->metadata) {
    if (key == "format" || last_component(key) != last_component(value)) continue;
    if (find_tensor(key) != nullptr || find_tensor(value) == nullptr) continue;
    contents().aliases.push_back({std::string(key), std::string(value)});
  }
}

const TensorInfo* SafetensorsContainer::find_tensor(std::string_view name) {
  const auto& tensors = contents().tensors;
  const auto name_of = [&](std::uint32_t number) { return tensors[number].name; };
  const std::optional<std::uint32_t> number = contents().index.find(name, name_of);
  return number ? &tensors[*number] : nullptr;
}

}  // namespace flatbed::safetensors
