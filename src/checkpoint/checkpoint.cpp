// The public face of Checkpoint: lookup, tree, views and reads over Checkpoint::State.
#include "flatbed/checkpoint.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "archive/crc32.hpp"
#include "archive/zip_entry.hpp"
#include "base/checked.hpp"
#include "base/str_cat.hpp"
#include "checkpoint/checkpoint_state.hpp"
#include "checkpoint/closest_name.hpp"
#include "checkpoint/folder_model.hpp"
#include "checkpoint/folder_shards.hpp"
#include "checkpoint/open_set.hpp"
#include "checkpoint/sniff.hpp"
#include "io/digest.hpp"
#include "io/file_error.hpp"
#include "io/guarded_source.hpp"
#include "io/memory_source.hpp"
#include "io/reread.hpp"
#include "safetensors/seal.hpp"
#include "value/tree_json.hpp"

namespace flatbed {

using safetensors::chunk_count;
using safetensors::kChunkBytes;

namespace {

Result<Checkpoint> open_content(File file, const OpenOptions& options) {
  FLATBED_ASSIGN(const Content content, sniff(file));
  if (content == Content::json) return open_set(file, options);
  const ContainerOptions of_file{options.check_seal, file.path()};
  return open_file(std::make_shared<const File>(std::move(file)), content, of_file);
}

Result<Checkpoint> open_source(std::shared_ptr<const ByteSource> source,
                               const OpenOptions& options) {
  const std::string label(source->label());
  const Result<Content> content = sniff(*source);
  if (!content) return in_file(label, content.error());
  Result<Checkpoint> opened = open_file(std::move(source), *content, {options.check_seal, {}});
  if (!opened) return in_file(label, std::move(opened).error());
  return opened;
}

// The file or index `name` of a folder that is not local.
Result<Checkpoint> open_name(const SourceFolder& folder, const std::string& name,
                             const OpenOptions& options) {
  FLATBED_ASSIGN(std::shared_ptr<const ByteSource> source, open_in(folder, name));
  const std::string label(source->label());
  const Result<Content> content = sniff(*source);
  if (!content) return in_file(label, content.error());
  Result<Checkpoint> opened =
      *content == Content::json
          ? open_set(folder, *source, name, options)
          : open_file(std::move(source), *content, {options.check_seal, name, nullptr, &folder});
  if (!opened) return in_file(label, std::move(opened).error());
  return opened;
}

Error missing_error(std::string_view name, std::string_view file) {
  return make_error(ErrorCode::shard_tensor_missing, "the index lists ", quoted(name), " in ",
                    quoted(file), ", which has no such tensor");
}

}  // namespace

std::string_view name(SealState state) noexcept {
  constexpr std::array<std::string_view, 5> kNames{"unsealed", "sealed", "annotated", "newer",
                                                   "broken"};
  return kNames[static_cast<std::size_t>(state)];
}

Result<Checkpoint> Checkpoint::open(const std::filesystem::path& path, const OpenOptions& options) {
  std::error_code ignored;
  std::filesystem::path file = path;
  if (std::filesystem::is_directory(path, ignored)) {
    FLATBED_ASSIGN(FolderModel model, find_model(path));
    if (!model.shards.empty()) return open_set(model.shards, options);
    file = std::move(model.file);
  }
  FLATBED_ASSIGN(File content, File::open(file));
  Result<Checkpoint> opened = open_content(std::move(content), options);
  if (!opened) return in_file(file.native(), std::move(opened).error());
  return opened;
}

Result<Checkpoint> Checkpoint::open(std::shared_ptr<const ByteSource> source,
                                    const OpenOptions& options) {
  FLATBED_ASSIGN(std::shared_ptr<const ByteSource> guarded, GuardedSource::wrap(std::move(source)));
  return open_source(std::move(guarded), options);
}

Result<Checkpoint> Checkpoint::open(std::shared_ptr<const SourceFolder> folder,
                                    std::string_view name, const OpenOptions& options) {
  if (!folder) return make_error(ErrorCode::invalid_argument, "the folder is null");
  if (!name.empty()) return open_name(*folder, std::string(name), options);
  FLATBED_ASSIGN(const std::vector<std::string> names, folder->names());
  const std::string label(folder->label());
  FLATBED_ASSIGN(const FolderModel model, find_model(label, names));
  if (model.shards.empty()) return open_name(*folder, model.file.native(), options);
  std::vector<std::string> shards;
  for (const std::filesystem::path& shard : model.shards) shards.push_back(shard.native());
  Result<Checkpoint> opened = open_set(*folder, shards, options);
  if (!opened) return in_file(label, std::move(opened).error());
  return opened;
}

Result<Checkpoint> Checkpoint::open_descriptor(int descriptor, std::string label,
                                               const OpenOptions& options) {
  FLATBED_ASSIGN(File file, File::of_descriptor(descriptor, std::move(label)));
  return open_source(std::make_shared<const File>(std::move(file)), options);
}

Result<Checkpoint> Checkpoint::open_memory(std::span<const std::byte> bytes, std::string label,
                                           const OpenOptions& options) {
  return open_source(std::make_shared<const MemorySource>(bytes, std::move(label)), options);
}

std::span<const TensorInfo> Checkpoint::tensors() const& { return state_->tensors; }
std::span<const Alias> Checkpoint::aliases() const& { return state_->aliases; }
std::span<const FileInfo> Checkpoint::files() const& { return state_->files; }
Layout Checkpoint::layout() const noexcept { return state_->layout; }
SealState Checkpoint::seal() const noexcept { return state_->seal; }
std::span<const std::string> Checkpoint::notes() const& { return state_->notes; }
std::span<const std::pair<std::string_view, std::string_view>> Checkpoint::metadata() const& {
  return state_->metadata;
}
bool Checkpoint::has_tree() const noexcept { return state_->has_tree; }

const TensorInfo* Checkpoint::find(std::string_view name) const& {
  const State& state = *state_;
  const auto number = state.index.find(name, [&](std::uint32_t n) { return state.name_of(n); });
  if (!number) return nullptr;
  if (*number < state.tensors.size()) return &state.tensors[*number];
  return state.find_tensor(state.aliases[*number - state.tensors.size()].target);
}

Result<TensorInfo> Checkpoint::tensor(std::string_view name) const& {
  if (const TensorInfo* found = find(name)) return *found;
  if (const auto missing = state_->missing.find(name); missing != state_->missing.end())
    return missing_error(missing->first, missing->second);
  if (state_->aliases_error) return *state_->aliases_error;
  const std::string_view near = closest_name(
      name, state_->tensors.size(), [this](std::size_t i) { return state_->tensors[i].name; });
  return make_error(ErrorCode::tensor_not_found, "there is no tensor ", quoted(name), " among ",
                    state_->tensors.size(),
                    near.empty() ? "" : str_cat("; the closest is ", quoted(near)));
}

Result<Value> Checkpoint::tree() const& {
  const Result<ValueTree>& tree = state_->decoded_tree();
  if (!tree) return tree.error();
  return tree->root();
}

Result<TensorView> Checkpoint::view(const TensorInfo& tensor) const& {
  const State& state = *state_;
  if (tensor.index >= state.tensors.size() || state.tensors[tensor.index].name != tensor.name) {
    return make_error(ErrorCode::invalid_argument, "tensor ", quoted(tensor.name),
                      " is not of this checkpoint");
  }
  const TensorInfo& own = state.tensors[tensor.index];
  const TensorPlace place = state.locate(own.index);
  if (own.stored == Stored::held) return TensorView{own, place.container.held(place.number)};
  if (own.stored != Stored::plain) {
    const bool computed = own.stored == Stored::computed;
    return make_error(ErrorCode::not_viewable, "tensor ", quoted(own.name),
                      computed ? " is computed when it is read: use read()"
                               : " is stored strided, byte-swapped or compressed: use read()");
  }
  FLATBED_ASSIGN(const std::span<const std::byte> bytes, place.container.bytes());
  return TensorView{own, bytes.subspan(static_cast<std::size_t>(own.where.offset),
                                       static_cast<std::size_t>(own.nbytes))};
}

Result<void> Checkpoint::read(const TensorInfo& tensor, std::uint64_t offset,
                              std::span<std::byte> out, Verify verify) const {
  ReadTally ignored;
  return CheckpointAccess::read(*this, tensor, {offset, out},
                                {verify, ignored, verify == Verify::yes});
}

Result<void> CheckpointAccess::read(const Checkpoint& checkpoint, const TensorInfo& tensor,
                                    const ReadRange& range, const Reading& reading) {
  const auto& [offset, out] = range;
  const State& state = *checkpoint.state_;
  if (tensor.index >= state.tensors.size() || state.tensors[tensor.index].name != tensor.name) {
    return make_error(ErrorCode::invalid_argument, "tensor ", quoted(tensor.name),
                      " is not of this checkpoint");
  }
  const TensorInfo& own = state.tensors[tensor.index];
  if (!in_bounds(offset, out.size(), own.nbytes)) {
    return make_error(ErrorCode::buffer_too_small, "tensor ", quoted(own.name),
                      ": read out of range: found ", out.size(), " bytes at ", offset,
                      ", the tensor has ", own.nbytes);
  }
  return state.read(own, offset, out, reading);
}

Result<void> CheckpointAccess::reread(const Checkpoint& checkpoint, const TensorInfo& tensor,
                                      const ReadRange& range) {
  const State& state = *checkpoint.state_;
  Result<void> done = state.reread_stored(tensor, range.offset, range.out);
  if (done) return done;
  return in_file(state.files[tensor.where.file].path.native(), std::move(done).error());
}

Checkpoint::State::~State() = default;

// The contents of a tensor, for matches_or_reread(). Borrows both.
class Checkpoint::State::RereadTensor final : public ByteSource {
 public:
  RereadTensor(const State& state, const TensorInfo& tensor)
      : state_(state), tensor_(tensor), source_(state.locate(tensor.index).container.source()) {}

  [[nodiscard]] std::string_view label() const noexcept override { return source_.label(); }
  [[nodiscard]] std::uint64_t size() const noexcept override { return tensor_.nbytes; }
  [[nodiscard]] Result<void> read_at(std::uint64_t offset,
                                     std::span<std::byte> out) const override {
    return state_.read_once(tensor_, offset, out);
  }
  [[nodiscard]] unsigned max_rereads() const noexcept override { return source_.max_rereads(); }
  [[nodiscard]] Result<void> reread_at(std::uint64_t offset,
                                       std::span<std::byte> out) const override {
    return state_.reread_stored(tensor_, offset, out);
  }

 private:
  const State& state_;
  const TensorInfo& tensor_;
  const ByteSource& source_;
};

const Container& CheckpointAccess::container(const Checkpoint& checkpoint, std::uint32_t file) {
  return checkpoint.state_->container(file);
}

const std::filesystem::path& CheckpointAccess::index_file(const Checkpoint& checkpoint) {
  return checkpoint.state_->index_file;
}

TensorPlace CheckpointAccess::locate(const Checkpoint& checkpoint, const TensorInfo& tensor) {
  return checkpoint.state_->locate(tensor.index);
}

std::vector<SourceTensor> CheckpointAccess::sources(const Checkpoint& checkpoint,
                                                    const TensorInfo& tensor) {
  std::vector<SourceTensor> sources;
  checkpoint.state_->append_sources(tensor.index, sources);
  return sources;
}

std::vector<TensorPart> CheckpointAccess::parts(const Checkpoint& checkpoint,
                                                const TensorInfo& tensor, const DimRange& range) {
  std::vector<TensorPart> parts;
  const auto& state = checkpoint.state_;
  return state->append_parts(state, tensor.index, range, parts) ? parts : std::vector<TensorPart>();
}

bool CheckpointAccess::gathers(const Checkpoint& checkpoint, const TensorInfo& tensor) {
  return checkpoint.state_->gathers(tensor.index);
}

Result<void> CheckpointAccess::check_chunk(const Checkpoint& checkpoint, const TensorInfo& tensor,
                                           std::uint64_t chunk, std::uint64_t digest) {
  return checkpoint.state_->check_chunk(tensor, chunk, digest);
}

std::optional<Error> CheckpointAccess::missing_tensor(const Checkpoint& checkpoint) {
  const auto& missing = checkpoint.state_->missing;
  if (missing.empty()) return std::nullopt;
  return missing_error(missing.begin()->first, missing.begin()->second);
}

Result<ValueTree> CheckpointAccess::copy_tree(const Checkpoint& checkpoint) {
  return checkpoint.state_->decoded_tree();
}

Result<void> Checkpoint::State::build_index() {
  const auto text_of = [this](std::uint32_t number) { return name_of(number); };
  // A single file's reader has already indexed its tensors, and possibly its aliases.
  const std::size_t indexed = index.size();
  if (indexed == 0) index = NameIndex(tensors.size() + aliases.size());
  const auto add = [&](std::size_t number) -> Result<void> {
    const auto n = static_cast<std::uint32_t>(number);
    if (!index.insert(name_of(n), n, text_of)) return {};
    return make_error(ErrorCode::name_collision,
                      "duplicate name: two tensors or aliases are called ", quoted(name_of(n)));
  };
  for (std::size_t i = indexed; i < tensors.size() + aliases.size(); ++i) FLATBED_TRY(add(i));
  if (!aliases_text) return {};
  Result<std::vector<Alias>> decoded = decode_aliases(
      *aliases_text, [this](std::string_view wanted) { return find_tensor(wanted); });
  if (!decoded) {
    // The tensors stay readable (spec A2).
    aliases_error = decoded.error();
    notes.push_back(str_cat("cannot look up aliases: ", decoded.error().message));
    return {};
  }
  const std::size_t first = tensors.size() + aliases.size();
  for (Alias& alias : *decoded) aliases.push_back(std::move(alias));
  for (std::size_t i = first; i < tensors.size() + aliases.size(); ++i) FLATBED_TRY(add(i));
  return {};
}

const TensorInfo* Checkpoint::State::find_tensor(std::string_view wanted) const {
  const auto number = index.find(wanted, [this](std::uint32_t n) { return name_of(n); });
  return number && *number < tensors.size() ? &tensors[*number] : nullptr;
}

const Result<ValueTree>& Checkpoint::State::decoded_tree() const {
  std::call_once(tree_once_, [this] {
    if (!tree_) tree_.emplace(make_tree());
  });
  return *tree_;
}

Result<ValueTree> Checkpoint::State::make_tree() const {
  if (tree_text) {
    return decode_tree(*tree_text, [this](std::string_view wanted) { return find_tensor(wanted); });
  }
  if (seal == SealState::newer) return Error{ErrorCode::seal_newer, files.front().seal_note};
  // T1: a dict of names and aliases to plain tensors.
  ValueTree made;
  const NodeId root = made.add_dict();
  for (const TensorInfo& tensor : tensors) {
    made.set_item(root, made.add_string(tensor.name), made.add_tensor(tensor.index, {}));
  }
  for (const Alias& alias : aliases) {
    const TensorInfo* target = find_tensor(alias.target);
    if (target != nullptr)
      made.set_item(root, made.add_string(alias.name), made.add_tensor(target->index, {}));
  }
  made.set_root(root);
  return made;
}

Result<void> Checkpoint::State::compute(const TensorInfo& tensor, std::uint64_t,
                                        std::span<std::byte>, const Reading&) const {
  return make_error(ErrorCode::internal_error, "tensor ", quoted(tensor.name), " is not computed");
}

void Checkpoint::State::append_sources(std::uint32_t tensor,
                                       std::vector<SourceTensor>& sources) const {
  sources.push_back({tensors[tensor], locate(tensor)});
}

bool Checkpoint::State::append_parts(const std::shared_ptr<const State>& self, std::uint32_t tensor,
                                     const DimRange& range, std::vector<TensorPart>& parts) const {
  if (tensors[tensor].stored != Stored::plain) return false;
  parts.push_back({CheckpointAccess::make(self), &tensors[tensor], range.begin, range.end});
  return true;
}

bool Checkpoint::State::gathers(std::uint32_t tensor) const {
  return tensors[tensor].stored == Stored::strided;
}

std::uint64_t Checkpoint::State::step_nbytes(const TensorInfo& tensor) const {
  if (gathers(tensor.index)) return kGatheredStepNbytes;
  return tensor.stored == Stored::computed ? kComputedStepNbytes : kChunkBytes;
}

Result<void> Checkpoint::State::read(const TensorInfo& tensor, std::uint64_t offset,
                                     std::span<std::byte> out, const Reading& reading) const {
  if (tensor.stored == Stored::computed) return compute(tensor, offset, out, reading);
  const bool verified = reading.verify == Verify::yes && !tensor.digests.empty();
  if (!verified) reading.tally.bytes_read += out.size();
  Result<void> done = verified ? read_verified(tensor, offset, out, reading.tally)
                               : read_stored(tensor, offset, out, reading.tally);
  if (done && !verified && reading.check_records)
    done = check_record(tensor, offset, out, reading.tally);
  if (done) return done;
  return in_file(files[tensor.where.file].path.native(), std::move(done).error());
}

Result<void> Checkpoint::State::read_stored(const TensorInfo& tensor, std::uint64_t offset,
                                            std::span<std::byte> out, ReadTally& tally) const {
  Result<void> read = read_once(tensor, offset, out);
  const auto damaged = [&read] {
    return !read && read.error().code == ErrorCode::zip_deflate_malformed;
  };
  if (!damaged()) return read;
  for (unsigned left = locate(tensor.index).container.source().max_rereads(); left > 0 && damaged();
       --left) {
    tally.chunks_reread += chunk_count(out.size());
    read = reread_stored(tensor, offset, out);
  }
  return read;
}

Result<void> Checkpoint::State::read_once(const TensorInfo& tensor, std::uint64_t offset,
                                          std::span<std::byte> out) const {
  const auto [container, number] = locate(tensor.index);
  if (tensor.stored == Stored::plain)
    return container.source().read_at(tensor.where.offset + offset, out);
  if (tensor.stored == Stored::held) {
    const std::span<const std::byte> held = container.held(number);
    std::copy_n(held.begin() + static_cast<std::ptrdiff_t>(offset), out.size(), out.begin());
    return {};
  }
  return container.read(number, offset, out);
}

Result<void> Checkpoint::State::reread_stored(const TensorInfo& tensor, std::uint64_t offset,
                                              std::span<std::byte> out) const {
  const auto [container, number] = locate(tensor.index);
  if (tensor.stored == Stored::plain)
    return container.source().reread_at(tensor.where.offset + offset, out);
  return container.reread(number, offset, out);
}

Result<void> Checkpoint::State::check_record(const TensorInfo& tensor, std::uint64_t offset,
                                             std::span<std::byte> out, ReadTally& tally) const {
  const auto [container, number] = locate(tensor.index);
  if (offset != 0 || out.size() != tensor.nbytes || container.source().max_rereads() == 0)
    return {};
  const std::optional<TensorRecord> record = container.record_of(number);
  if (!record || !record->whole || record->crc == 0) return {};
  std::uint32_t found = 0;
  const auto matches = [&](std::span<const std::byte> read) {
    found = pth::crc32_of(read);
    return found == record->crc;
  };
  const RereadTensor source(*this, tensor);
  std::uint64_t rereads = 0;
  FLATBED_ASSIGN(const bool same, matches_or_reread({source, 0, out}, rereads, matches));
  tally.chunks_reread += rereads * chunk_count(out.size());
  if (same) return {};
  return make_error(ErrorCode::zip_crc_mismatch, "tensor ", quoted(tensor.name),
                    ": its record: ", pth::crc_text(found, record->crc));
}

// Whole chunks from `offset` on, the beginning of one: one where they stay in the processor's cache
// until they are hashed, more where the source prefers larger reads.
Result<std::size_t> Checkpoint::State::read_chunks(const TensorInfo& tensor, std::uint64_t offset,
                                                   std::span<std::byte> out,
                                                   ReadTally& tally) const {
  std::size_t most = kChunkBytes;
  if (tensor.stored == Stored::plain)
    most = std::max(most, locate(tensor.index).container.source().preferred_read_nbytes() /
                              kChunkBytes * kChunkBytes);
  std::size_t nbytes = std::min(out.size(), most);
  if (offset + nbytes != tensor.nbytes) nbytes -= nbytes % kChunkBytes;
  out = out.first(nbytes);
  FLATBED_TRY(read_stored(tensor, offset, out, tally));
  for (std::size_t at = 0; at < nbytes; at += kChunkBytes) {
    const std::span<std::byte> bytes =
        out.subspan(at, std::min<std::size_t>(kChunkBytes, nbytes - at));
    FLATBED_TRY(check_read(tensor, (offset + at) / kChunkBytes, bytes, tally));
    tally.bytes_read += bytes.size();
    tally.bytes_verified += bytes.size();
    ++tally.chunks_verified;
  }
  return nbytes;
}

Result<void> Checkpoint::State::read_verified(const TensorInfo& tensor, std::uint64_t offset,
                                              std::span<std::byte> out, ReadTally& tally) const {
  ByteBuffer whole;  // a chunk of which only a part is requested
  while (!out.empty()) {
    const std::uint64_t chunk = offset / kChunkBytes;
    const std::uint64_t begin = chunk * kChunkBytes;
    const std::uint64_t chunk_end = std::min<std::uint64_t>(begin + kChunkBytes, tensor.nbytes);
    if (begin == offset && out.size() >= chunk_end - begin) {
      FLATBED_ASSIGN(const std::size_t nbytes, read_chunks(tensor, offset, out, tally));
      offset += nbytes;
      out = out.subspan(nbytes);
      continue;
    }
    const auto nbytes = static_cast<std::size_t>(std::min(kChunkBytes, tensor.nbytes - begin));
    const auto skip = static_cast<std::size_t>(offset - begin);
    const std::size_t taken = std::min(out.size(), nbytes - skip);
    whole.resize(kChunkBytes);
    FLATBED_TRY(read_chunks(tensor, begin, std::span(whole).first(nbytes), tally));
    std::memcpy(out.data(), whole.data() + skip, taken);
    offset += taken;
    out = out.subspan(taken);
  }
  return {};
}

Result<void> Checkpoint::State::check_read(const TensorInfo& tensor, std::uint64_t chunk,
                                           std::span<std::byte> bytes, ReadTally& tally) const {
  Result<void> checked = check_chunk(tensor, chunk, xxh3(bytes));
  if (checked || tensor.stored == Stored::held) return checked;
  const RereadTensor source(*this, tensor);
  const auto matches = [&, first = true](std::span<const std::byte> read) mutable {
    if (!std::exchange(first, false)) checked = check_chunk(tensor, chunk, xxh3(read));
    return checked.has_value();
  };
  FLATBED_TRY(
      matches_or_reread({source, chunk * kChunkBytes, bytes}, tally.chunks_reread, matches));
  return checked;
}

Result<void> Checkpoint::State::check_chunk(const TensorInfo& tensor, std::uint64_t chunk,
                                            std::uint64_t digest) const {
  const std::string_view wanted = tensor.digests.hex(static_cast<std::size_t>(chunk));
  const std::string found = hex16(digest);
  if (found == wanted) return {};
  const bool rewritten = files[tensor.where.file].seal == SealState::annotated;
  const std::uint64_t begin = chunk * kChunkBytes;
  return make_error(
      rewritten ? ErrorCode::chunk_rewritten : ErrorCode::chunk_corrupt, "tensor ",
      quoted(tensor.name), ": chunk ", chunk, ", bytes [", begin, ",",
      std::min(begin + kChunkBytes, tensor.nbytes), ") at file offset ",
      tensor.where.offset + begin,
      rewritten ? ", are rewritten or corrupt: found digest " : ", are corrupt: found digest ",
      found, ", expected ", wanted);
}

}  // namespace flatbed
