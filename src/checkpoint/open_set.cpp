// Opening a sharded set: the index, its files, and what they say together (spec H1 to H4).
//
//   {"metadata": {"total_size": 123, "flatbed.shards": "1/<16 hex digits per file>"},
//    "weight_map": {"<tensor>": "<file>", ...}}
#include <algorithm>
#include <map>
#include <string>
#include <system_error>
#include <vector>

#include "base/json.hpp"
#include "base/str_cat.hpp"
#include "checkpoint/checkpoint_state.hpp"
#include "checkpoint/sniff.hpp"

namespace flatbed {

namespace {

constexpr std::uint64_t kMaxIndex = 250'000'000;
constexpr std::size_t kMaxShards = 10'000;
constexpr std::size_t kMaxSealedShards = 6'000;  // spec H4
constexpr JsonRules kIndexRules{ErrorCode::index_malformed, ErrorCode::index_malformed,
                                ErrorCode::index_malformed, ErrorCode::index_malformed, 127};
constexpr std::string_view kSafetensors = ".safetensors";
constexpr std::string_view kBin = ".bin";

// The index as read: which tensors each file holds, files in byte order of their names.
struct Index {
  JsonDocument json;  // owns the texts
  std::map<std::string_view, std::vector<std::string_view>> shards;
  std::optional<std::string_view> contents;  // metadata["flatbed.shards"]
};

Error malformed(std::string_view what) { return make_error(ErrorCode::index_malformed, what); }

// H2, the lexical half: one component, with the right ending.
Result<void> check_shard_name(std::string_view name, std::string_view ending) {
  const bool control = std::any_of(name.begin(), name.end(), [](char c) {
    return static_cast<unsigned char>(c) < 0x20 || c == '\x7F' || c == '/' || c == '\\' || c == ':';
  });
  if (!control && !name.starts_with('.') && name.size() > ending.size() && name.ends_with(ending))
    return {};
  return make_error(ErrorCode::shard_name_refused, "the index names the file ", quoted(name),
                    ": wanted one name without folders that ends in ", ending);
}

// Shards of pickles only where the index itself says so: a safetensors index must not lead to
// pickles.
std::string_view shard_ending(const std::filesystem::path& index) {
  return index.native().ends_with(".bin.index.json") ? kBin : kSafetensors;
}

Result<void> read_weight_map(JsonValue map, std::string_view ending, Index& index) {
  std::vector<std::string_view> names;
  NameIndex seen(map.size_hint());
  for (JsonValue key = map.first(); !key.at_end();) {
    const JsonValue file = key.member();
    if (!file.is_string()) return malformed("a value of weight_map is not a string");
    const auto number = static_cast<std::uint32_t>(names.size());
    if (seen.insert(key.text(), number, [&](std::uint32_t i) { return names[i]; })) {
      return make_error(ErrorCode::index_duplicate_name, "weight_map lists ", quoted(key.text()),
                        " twice");
    }
    names.push_back(key.text());
    auto& shard = index.shards[file.text()];
    if (shard.empty()) FLATBED_TRY(check_shard_name(file.text(), ending));
    if (index.shards.size() > kMaxShards) {
      return make_error(ErrorCode::limit_exceeded, "the index names more than ", kMaxShards,
                        " files");
    }
    shard.push_back(key.text());
    key = file.next();
  }
  if (names.empty()) return malformed("weight_map is empty");
  return {};
}

Result<void> read_index_metadata(JsonValue metadata, Index& index) {
  if (!metadata.is_object()) return malformed("metadata is not an object");
  for (JsonValue key = metadata.first(); !key.at_end();) {
    const JsonValue value = key.member();
    if (key.text() == "flatbed.shards") {
      if (!value.is_string() || index.contents) {
        return malformed("metadata has no single string flatbed.shards");
      }
      index.contents = value.text();
    }
    key = value.next();
  }
  return {};
}

Result<Index> read_index(const File& file) {
  if (file.size() > kMaxIndex) {
    return make_error(ErrorCode::limit_exceeded, "the index has ", file.size(), " bytes, at most ",
                      kMaxIndex, " are read");
  }
  std::string text(static_cast<std::size_t>(file.size()), '\0');
  FLATBED_TRY(file.read_at(0, std::as_writable_bytes(std::span(text))));
  FLATBED_ASSIGN(JsonDocument json, JsonDocument::parse_copy(text, kIndexRules));
  Index index{std::move(json), {}, std::nullopt};
  const JsonValue root = index.json.root();
  if (!root.is_object()) return malformed("the index is not a JSON object");
  bool mapped = false;
  bool described = false;
  for (JsonValue key = root.first(); !key.at_end();) {
    const JsonValue value = key.member();
    if (key.text() == "weight_map") {
      if (mapped || !value.is_object())
        return malformed("the index has no single object weight_map");
      mapped = true;
      FLATBED_TRY(read_weight_map(value, shard_ending(file.path()), index));
    } else if (key.text() == "metadata") {
      if (described) return malformed("the index has metadata twice");
      described = true;
      FLATBED_TRY(read_index_metadata(value, index));
    }
    key = value.next();
  }
  if (!mapped) return malformed("the JSON text has no weight_map: it is not an index of shards");
  return index;
}

Result<std::unique_ptr<OpenFile>> open_shard(const std::filesystem::path& path,
                                             const OpenOptions& options) {
  Result<File> file = File::open(path, {.follow_links = options.follow_links});
  if (!file && file.error().code == ErrorCode::file_not_found) {
    return make_error(ErrorCode::shard_missing, "the index names this file, but it is not there");
  }
  if (!file) return std::move(file).error();
  FLATBED_ASSIGN(const Content content, sniff(*file));
  const bool torch = is_torch(content);
  if (content == Content::json || torch != path.native().ends_with(kBin)) {
    return make_error(ErrorCode::unsupported_format,
                      "the content is not what the file's name and the index promise");
  }
  if (!torch) return open_safetensors(*std::move(file), options);
  if (options.check_seal == CheckSeal::required)
    return make_error(ErrorCode::not_sealed, "a PyTorch file has no seal");
  return open_torch(*std::move(file), content);
}

// Builds the state of a set, shard by shard.
class SetBuilder {
 public:
  explicit SetBuilder(const OpenOptions& options)
      : options_(options), state_(std::make_shared<CheckpointAccess::State>()) {}

  Result<void> add(const std::filesystem::path& path, std::span<const std::string_view> listed) {
    Result<std::unique_ptr<OpenFile>> opened = open_shard(path, options_);
    if (!opened) return with_context(path.filename().native(), std::move(opened).error());
    FLATBED_TRY(add_tensors(**opened, path, listed));
    add_texts(**opened, path);
    state_->files.push_back((*opened)->info);
    state_->opened.push_back(*std::move(opened));
    return {};
  }

  // H4
  Result<void> check_contents(std::optional<std::string_view> contents) {
    if (!contents || options_.check_seal == CheckSeal::off) return {};
    if (!contents->starts_with("1/")) {
      state_->notes.emplace_back("flatbed.shards of the index has a newer version and is ignored");
      return {};
    }
    const std::string_view digests = contents->substr(2);
    if (digests.size() != state_->files.size() * 16 || state_->files.size() > kMaxSealedShards) {
      return make_error(ErrorCode::shard_mixed_set, "flatbed.shards holds ", digests.size() / 16,
                        " digests for ", state_->files.size(), " files");
    }
    for (std::size_t i = 0; i < state_->files.size(); ++i) {
      const FileInfo& file = state_->files[i];
      if (file.content == digests.substr(i * 16, 16) && !file.content.empty()) continue;
      return make_error(ErrorCode::shard_mixed_set, quoted(file.path.filename().native()),
                        " has content digest ", file.content.empty() ? "none" : file.content,
                        ", the index was written for ", digests.substr(i * 16, 16));
    }
    return {};
  }

  Result<Checkpoint> finish() {
    state_->layout = layout_of(*state_->opened.front());
    state_->seal = common_seal();
    FLATBED_TRY(state_->build_index());
    state_->has_tree = state_->tree_text.has_value();
    return CheckpointAccess::make(std::move(state_));
  }

 private:
  // H1: the index is an allow-list. Listed names are tensors, or further names of a tensor of the
  // same file.
  Result<void> add_tensors(OpenFile& open, const std::filesystem::path& path,
                           std::span<const std::string_view> listed) {
    NameIndex wanted(listed.size());
    const auto listed_name = [&](std::uint32_t i) { return listed[i]; };
    for (std::uint32_t i = 0; i < listed.size(); ++i) wanted.insert(listed[i], i, listed_name);
    const Renames renames = listed_otherwise(open.aliases, [&](std::string_view name) {
      return wanted.find(name, listed_name).has_value();
    });
    std::vector<bool> found(listed.size());
    std::size_t ignored = 0;
    const auto file = static_cast<std::uint32_t>(state_->files.size());
    for (TensorInfo tensor : open.tensors) {
      if (const auto rename = renames.find(tensor.name); rename != renames.end())
        tensor.name = rename->second;
      const auto number = wanted.find(tensor.name, listed_name);
      if (!number) {
        ++ignored;
        continue;
      }
      found[*number] = true;
      state_->file_tensor.push_back(tensor.index);
      tensor.index = static_cast<std::uint32_t>(state_->tensors.size());
      tensor.where.file = file;
      tensor.storage += first_storage_;
      state_->tensors.push_back(tensor);
    }
    for (const Alias& alias : open.aliases) {
      const auto number = wanted.find(alias.name, listed_name);
      if (!number || found[*number]) continue;
      found[*number] = true;
      const auto rename = renames.find(alias.target);
      state_->aliases.push_back(
          {alias.name, rename == renames.end() ? alias.target : std::string(rename->second)});
    }
    first_storage_ += static_cast<std::uint32_t>(
        open.torch ? open.torch->storages.size() + open.torch->held.size() : open.tensors.size());
    const std::string shard = path.filename().native();
    for (std::size_t i = 0; i < listed.size(); ++i) {
      if (found[i]) continue;
      return make_error(ErrorCode::shard_tensor_missing, "the index lists ", quoted(listed[i]),
                        " in ", quoted(shard), ", which has no such tensor");
    }
    if (ignored > 0)
      state_->notes.push_back(str_cat(quoted(shard), ": ", ignored,
                                      " tensors that the index does not list are ignored"));
    return {};
  }

  using Renames = std::map<std::string_view, std::string_view>;

  // Tensors that the index lists by other names alone: a tensor's name in its file, and the first
  // listed one, which becomes its name.
  template <typename IsListed>
  static Renames listed_otherwise(std::span<const Alias> aliases, IsListed is_listed) {
    Renames renames;
    for (const Alias& alias : aliases) {
      if (is_listed(alias.name) && !is_listed(alias.target))
        renames.try_emplace(alias.target, alias.name);
    }
    return renames;
  }

  // H3: the first shard's tree, aliases and metadata speak for the whole set.
  void add_texts(OpenFile& open, const std::filesystem::path& path) {
    const std::string shard = path.filename().native();
    for (const std::string& note : open.notes)
      state_->notes.push_back(str_cat(quoted(shard), ": ", note));
    if (open.torch) return;
    const std::optional<std::string_view> tree = open.sealed_value("flatbed.tree");
    const std::optional<std::string_view> aliases = open.sealed_value("flatbed.aliases");
    if (state_->files.empty()) {
      state_->metadata = open.header->metadata;
      state_->tree_text = tree;
      state_->aliases_text = aliases;
    } else if (tree || aliases) {
      state_->notes.push_back(
          str_cat(quoted(shard), ": only the first shard's tree and aliases count"));
    }
  }

  [[nodiscard]] SealState common_seal() const {
    SealState common = SealState::sealed;
    for (const FileInfo& file : state_->files) {
      if (file.seal == SealState::sealed) continue;
      if (file.seal == SealState::annotated && common == SealState::sealed)
        common = SealState::annotated;
      if (file.seal == SealState::unsealed && common != SealState::broken)
        common = SealState::unsealed;
      if (file.seal == SealState::newer && common != SealState::broken) common = SealState::newer;
      if (file.seal == SealState::broken) common = SealState::broken;
    }
    return common;
  }

  const OpenOptions& options_;
  std::shared_ptr<CheckpointAccess::State> state_;
  std::uint32_t first_storage_ = 0;
};

}  // namespace

Result<Checkpoint> open_set(const File& file, const OpenOptions& options) {
  FLATBED_ASSIGN(const Index index, read_index(file));
  SetBuilder builder(options);
  const std::filesystem::path directory = file.path().parent_path();
  for (const auto& [shard, names] : index.shards)
    FLATBED_TRY(builder.add(directory / shard, names));
  FLATBED_TRY(builder.check_contents(index.contents));
  return builder.finish();
}

Result<std::vector<std::filesystem::path>> list_shards(const File& file) {
  FLATBED_ASSIGN(const Index index, read_index(file));
  std::vector<std::filesystem::path> paths;
  for (const auto& [shard, names] : index.shards)
    paths.push_back(file.path().parent_path() / shard);
  return paths;
}

Result<std::filesystem::path> find_index(const std::filesystem::path& directory) {
  // In the order of preference; the last one is a set of one shard, which has no index.
  constexpr std::string_view kEndings[] = {".safetensors.index.json", ".bin.index.json",
                                           ".safetensors"};
  std::vector<std::filesystem::path> found[3];
  bool distributed = false;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().native();
    distributed = distributed || name == ".metadata" || name.ends_with(".distcp");
    for (std::size_t i = 0; i < 3; ++i) {
      if (name.ends_with(kEndings[i]) && !name.starts_with('.')) found[i].push_back(entry->path());
    }
  }
  if (error)
    return make_error(ErrorCode::io_error, quoted(directory.native()), ": ", error.message());
  for (const auto& paths : found) {
    if (paths.size() == 1) return paths.front();
    if (paths.size() > 1) {
      return make_error(ErrorCode::index_ambiguous, quoted(directory.native()), " holds ",
                        paths.size(), " indexes or models: name one of them");
    }
  }
  if (distributed)
    return make_error(ErrorCode::unsupported_layout, quoted(directory.native()), " is ",
                      pth::kDistributedAdvice);
  return make_error(ErrorCode::index_ambiguous, quoted(directory.native()),
                    " holds no .safetensors.index.json, .bin.index.json or .safetensors file");
}

}  // namespace flatbed
