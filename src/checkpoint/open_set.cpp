// Opens a sharded set: the files of an index, and what they state together (spec H1 to H4).
#include "checkpoint/open_set.hpp"

#include <algorithm>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "base/str_cat.hpp"
#include "checkpoint/checkpoint_state.hpp"
#include "checkpoint/folder_shards.hpp"
#include "checkpoint/set_index.hpp"
#include "checkpoint/sniff.hpp"
#include "io/file_error.hpp"
#include "io/guarded_source.hpp"

namespace flatbed {

namespace {

class SetState final : public CheckpointAccess::State {
 public:
  [[nodiscard]] const Container& container(std::uint32_t file) const override {
    return *containers[file];
  }
  [[nodiscard]] TensorPlace locate(std::uint32_t tensor) const override {
    return {*containers[tensors[tensor].where.file], number_in_file[tensor]};
  }

  std::vector<std::unique_ptr<Container>> containers;  // per file
  std::vector<std::uint32_t> number_in_file;           // per tensor
  std::deque<std::string> renamed;  // names of tensors that have another one in their file
};

constexpr std::uint32_t kNoTensor = 0xFFFFFFFF;

// The names that an index lists for one file. Borrows.
struct Listed {
  std::span<const std::string_view> names;  // of the whole index
  std::span<const std::uint32_t> numbers;   // into names

  [[nodiscard]] std::size_t size() const { return numbers.size(); }
  std::string_view operator[](std::size_t i) const { return names[numbers[i]]; }
};

// One file of a set, before it is opened.
struct Shard {
  std::shared_ptr<const ByteSource> source;
  std::string name;  // for messages
  ContainerOptions options;
};

Result<Shard> open_file_of(const std::filesystem::path& directory, const std::string& name,
                           const OpenOptions& options, const FileOptions& file_options) {
  const std::filesystem::path path = directory / name;
  Result<File> file = File::open(path, file_options);
  if (!file && file.error().code == ErrorCode::file_not_found) {
    return make_error(ErrorCode::shard_missing, "the index names this file, but it does not exist");
  }
  if (!file) return std::move(file).error();
  return Shard{std::make_shared<const File>(*std::move(file)), name, {options.check_seal, path}};
}

Result<void> check_shard_count(std::size_t count) {
  if (count == 0) return make_error(ErrorCode::invalid_argument, "the list of shards is empty");
  if (count <= kMaxShards) return {};
  return make_error(ErrorCode::limit_exceeded, "too many shards: found ", count, ", the limit is ",
                    kMaxShards);
}

// Builds the state of a set, shard by shard.
class SetBuilder {
 public:
  explicit SetBuilder(const OpenOptions& options)
      : options_(options), state_(std::make_shared<SetState>()) {}
  // For a set with an index, which is borrowed.
  SetBuilder(const OpenOptions& options, const SetIndex& index, std::filesystem::path index_file)
      : SetBuilder(options) {
    state_->index_file = std::move(index_file);
    state_->tensors.reserve(index.names.size());
    state_->number_in_file.reserve(index.names.size());
    tensor_of_.resize(index.names.size(), kNoTensor);
  }

  // The tensors that the index lists for the shard.
  Result<void> add_listed(const Shard& shard, const Listed& listed) {
    const Result<Content> content = sniff_as_named(*shard.source, shard.name);
    if (!content) return in_file(shard.name, content.error());
    FLATBED_TRY(open(shard, *content));
    add_listed_contents(shard.name, listed);
    return {};
  }
  void add_listed(std::unique_ptr<Container> opened, const std::string& name,
                  const Listed& listed) {
    keep(std::move(opened));
    add_listed_contents(name, listed);
  }

  // All tensors and aliases of the shard. `content` is what it was found to be.
  Result<void> add_whole(const Shard& shard, const Result<Content>& content) {
    if (!content) return in_file(shard.name, content.error());
    FLATBED_TRY(open(shard, *content));
    add_contents(shard.name);
    return {};
  }
  void add_whole(std::unique_ptr<Container> opened, const std::string& name) {
    keep(std::move(opened));
    add_contents(name);
  }

  // H4
  Result<void> check_contents(std::optional<std::string_view> contents) {
    if (!contents || options_.check_seal == CheckSeal::off) return {};
    if (!contents->starts_with("1/")) {
      state_->notes.emplace_back("ignored flatbed.shards of the index, which has a newer version");
      return {};
    }
    if (state_->files.size() > kMaxSealedShards) {
      return make_error(ErrorCode::shard_mixed_set, "flatbed.shards of too many files: found ",
                        state_->files.size(), ", the limit is ", kMaxSealedShards);
    }
    const std::string_view digests = contents->substr(2);
    if (digests.size() != state_->files.size() * 16) {
      return make_error(ErrorCode::shard_mixed_set,
                        "wrong number of digests in flatbed.shards: found ", digests.size() / 16,
                        ", expected one for each of ", state_->files.size(), " files");
    }
    for (std::size_t i = 0; i < state_->files.size(); ++i) {
      const FileInfo& file = state_->files[i];
      if (file.content == digests.substr(i * 16, 16) && !file.content.empty()) continue;
      return make_error(ErrorCode::shard_mixed_set, quoted(file.path.filename().native()),
                        ": content digest does not match: found ",
                        file.content.empty() ? "none" : file.content, ", expected ",
                        digests.substr(i * 16, 16));
    }
    return {};
  }

  // Of a set whose index lists nothing but the tensors that there are, the names are known.
  Result<Checkpoint> finish(SetIndex index) {
    if (state_->aliases.empty() && std::ranges::find(tensor_of_, kNoTensor) == tensor_of_.end()) {
      state_->index = std::move(index.numbers);
      state_->index.renumber([this](std::uint32_t number) { return tensor_of_[number]; });
    }
    return finish();
  }

  Result<Checkpoint> finish() {
    state_->layout = state_->containers.front()->layout();
    state_->seal = common_seal();
    if (Result<void> indexed = state_->build_index(); !indexed)
      return collision(std::move(indexed).error());
    state_->has_tree = state_->tree_text.has_value();
    return CheckpointAccess::make(std::move(state_));
  }

 private:
  Result<void> open(const Shard& shard, Content content) {
    ContainerOptions options = shard.options;
    options.set = &memory_;
    Result<std::unique_ptr<Container>> container = open_container(shard.source, content, options);
    if (!container) return in_file(shard.name, std::move(container).error());
    keep(*std::move(container));
    return {};
  }

  void keep(std::unique_ptr<Container> opened) {
    contents_ = opened->take_contents();
    state_->containers.push_back(std::move(opened));
  }

  void add_contents(std::string_view shard) {
    for (const TensorInfo& tensor : contents_.tensors) take(tensor);
    for (Alias& alias : contents_.aliases) take(std::move(alias));
    finish_file(shard);
  }

  void add_listed_contents(std::string_view shard, const Listed& listed) {
    if (contents_.aliases.empty()) {
      take_listed_tensors(shard, listed);
    } else {
      take_listed(shard, listed);
    }
    finish_file(shard);
  }

  void take(const TensorInfo& tensor) {
    state_->number_in_file.push_back(tensor.index);
    const auto index = static_cast<std::uint32_t>(state_->tensors.size());
    TensorInfo& taken = state_->tensors.emplace_back(tensor);
    taken.index = index;
    taken.where.file = static_cast<std::uint32_t>(state_->files.size());
    taken.storage += first_storage_;
  }

  void take(Alias alias) {
    alias_file_.push_back(static_cast<std::uint32_t>(state_->files.size()));
    state_->aliases.push_back(std::move(alias));
  }

  // H1 for a file without aliases: the index is an allow-list.
  void take_listed_tensors(std::string_view shard, const Listed& listed) {
    const auto& tensors = contents_.tensors;
    const auto name_of = [&](std::uint32_t i) { return tensors[i].name; };
    std::vector<std::uint32_t> listed_as(tensors.size(), kNoTensor);  // numbers of the index
    std::vector<bool> found(listed.size());
    std::uint32_t next = 0;  // mostly the index lists tensors in the order of their file
    for (std::size_t i = 0; i < listed.size(); ++i) {
      std::optional<std::uint32_t> number = next;
      if (next >= tensors.size() || tensors[next].name != listed[i])
        number = contents_.index.find(listed[i], name_of);
      if (!number) continue;
      listed_as[*number] = listed.numbers[i];
      found[i] = true;
      next = *number + 1;
    }
    std::size_t ignored = 0;
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      if (listed_as[i] == kNoTensor) {
        ++ignored;
        continue;
      }
      tensor_of_[listed_as[i]] = static_cast<std::uint32_t>(state_->tensors.size());
      take(tensors[i]);
    }
    note_missing(shard, listed, found);
    note_ignored(shard, ignored);
  }

  // H1: the index is an allow-list. Listed names are tensors, or further names of a tensor in the
  // same file.
  void take_listed(std::string_view shard, const Listed& listed) {
    NameIndex wanted(listed.size());
    const auto listed_name = [&](std::uint32_t i) { return listed[i]; };
    for (std::uint32_t i = 0; i < listed.size(); ++i) wanted.insert(listed[i], i, listed_name);
    const Renames renames = listed_otherwise(contents_.aliases, [&](std::string_view name) {
      return wanted.find(name, listed_name).has_value();
    });
    std::vector<bool> found(listed.size());
    std::size_t ignored = 0;
    for (TensorInfo tensor : contents_.tensors) {
      if (const auto rename = renames.find(tensor.name); rename != renames.end())
        tensor.name = state_->renamed.emplace_back(rename->second);
      const auto number = wanted.find(tensor.name, listed_name);
      if (!number) {
        ++ignored;
        continue;
      }
      found[*number] = true;
      take(tensor);
    }
    for (const Alias& alias : contents_.aliases) {
      const auto number = wanted.find(alias.name, listed_name);
      if (!number || found[*number]) continue;
      found[*number] = true;
      const auto rename = renames.find(alias.target);
      take(Alias{alias.name, rename == renames.end() ? alias.target : std::string(rename->second)});
    }
    note_missing(shard, listed, found);
    note_ignored(shard, ignored);
  }

  void note_ignored(std::string_view shard, std::size_t ignored) {
    if (ignored == 0) return;
    state_->notes.push_back(str_cat(quoted(shard), ": ignored ", counted(ignored, "tensor"),
                                    " that the index does not list"));
  }

  // A tensor that its file does not have is an error of asking for that tensor, not of the set.
  void note_missing(std::string_view shard, const Listed& listed, const std::vector<bool>& found) {
    std::size_t missing = 0;
    std::string_view first;
    for (std::size_t i = 0; i < listed.size(); ++i) {
      if (found[i]) continue;
      if (missing++ == 0) first = listed[i];
      state_->missing.emplace(listed[i], shard);
    }
    if (missing == 0) return;
    state_->notes.push_back(
        str_cat("the index lists ", counted(missing, "tensor"), " in ", quoted(shard),
                " that the file does not have: ", missing == 1 ? "" : "first ", quoted(first)));
  }

  using Renames = std::map<std::string_view, std::string_view>;

  // Tensors that the index lists only by other names: a tensor's name in its file, and the first
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

  // H3: the first shard's tree, aliases and metadata apply to the whole set.
  void finish_file(std::string_view shard) {
    for (const std::string& note : contents_.notes)
      state_->notes.push_back(str_cat(quoted(shard), ": ", note));
    if (state_->files.empty()) {
      state_->metadata = std::move(contents_.metadata);
      state_->tree_text = contents_.tree_text;
      state_->aliases_text = contents_.aliases_text;
    } else if (contents_.tree_text || contents_.aliases_text) {
      state_->notes.push_back(str_cat(
          quoted(shard), ": ignored its tree and aliases, because only the first shard's count"));
    }
    first_storage_ += contents_.storages;
    state_->files.push_back(std::move(contents_.info));
  }

  // Adds both files to the error of build_index(), if it concerns two files.
  [[nodiscard]] Error collision(Error error) const {
    std::vector<std::pair<std::string_view, std::uint32_t>> names;
    for (const TensorInfo& tensor : state_->tensors)
      names.emplace_back(tensor.name, tensor.where.file);
    for (std::size_t i = 0; i < state_->aliases.size(); ++i) {
      // The entries that flatbed.aliases added at the end are the first file's.
      const std::uint32_t file = i < alias_file_.size() ? alias_file_[i] : 0;
      names.emplace_back(state_->aliases[i].name, file);
    }
    std::ranges::sort(names);
    const auto twice = std::ranges::adjacent_find(
        names, [](const auto& a, const auto& b) { return a.first == b.first; });
    if (error.code != ErrorCode::name_collision || twice == names.end() ||
        twice->second == std::next(twice)->second) {
      return error;
    }
    const auto path_of = [&](std::uint32_t file) {
      return quoted(state_->files[file].path.native());
    };
    return make_error(ErrorCode::name_collision, "two shards have a tensor or an alias called ",
                      quoted(twice->first), ": ", path_of(twice->second), " and ",
                      path_of(std::next(twice)->second));
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
  std::shared_ptr<SetState> state_;
  SetMemory memory_;
  ContainerContents contents_;             // of the file that is being added
  std::vector<std::uint32_t> alias_file_;  // for each alias
  std::vector<std::uint32_t> tensor_of_;   // for each name of the index, or kNoTensor
  std::uint32_t first_storage_ = 0;
};

using Sniff = Result<Content> (*)(const ByteSource& file, std::string_view name);

Result<Content> sniff_any(const ByteSource& file, std::string_view) { return sniff(file); }

Result<Checkpoint> open_paths(const std::vector<std::filesystem::path>& paths,
                              const OpenOptions& options, Sniff sniff_file) {
  FLATBED_TRY(check_shard_count(paths.size()));
  SetBuilder builder(options);
  const FileOptions file_options{options.follow_links, make_descriptor_pool()};
  for (const std::filesystem::path& path : paths) {
    FLATBED_ASSIGN(File file, File::open(path, file_options));
    const Shard shard{
        std::make_shared<const File>(std::move(file)), path.native(), {options.check_seal, path}};
    FLATBED_TRY(builder.add_whole(shard, sniff_file(*shard.source, path.native())));
  }
  return builder.finish();
}

}  // namespace

Result<Checkpoint> open_set(const File& file, const OpenOptions& options) {
  FLATBED_ASSIGN(SetIndex index, read_set_index(file, file.path().filename().native()));
  SetBuilder builder(options, index, file.path());
  const std::filesystem::path directory = file.path().parent_path();
  const FileOptions file_options{options.follow_links, make_descriptor_pool(), directory};
  for (const auto& [name, numbers] : index.shards) {
    Result<Shard> shard = open_file_of(directory, name, options, file_options);
    if (!shard) return in_file(name, std::move(shard).error());
    FLATBED_TRY(builder.add_listed(*shard, {index.names, numbers}));
  }
  FLATBED_TRY(builder.check_contents(index.contents));
  return builder.finish(std::move(index));
}

Result<Checkpoint> open_set(const std::vector<std::filesystem::path>& shards,
                            const OpenOptions& options) {
  return open_paths(shards, options, sniff_as_named);
}

Result<Checkpoint> open_set(const SourceFolder& folder, const ByteSource& index_file,
                            std::string_view name, const OpenOptions& options) {
  const std::string_view above = name.substr(0, name.rfind('/') + 1);
  FLATBED_ASSIGN(SetIndex index, read_set_index(index_file, name.substr(above.size())));
  std::vector<std::string> names;
  for (const auto& [shard, numbers] : index.shards) names.push_back(str_cat(above, shard));
  FLATBED_ASSIGN(auto opened, open_shards_of(folder, names, options));
  SetBuilder builder(options, index, {});
  std::size_t number = 0;
  for (const auto& [shard, numbers] : index.shards)
    builder.add_listed(std::move(opened[number++]), shard, {index.names, numbers});
  FLATBED_TRY(builder.check_contents(index.contents));
  return builder.finish(std::move(index));
}

Result<Checkpoint> open_set(const SourceFolder& folder, const std::vector<std::string>& names,
                            const OpenOptions& options) {
  FLATBED_TRY(check_shard_count(names.size()));
  FLATBED_ASSIGN(auto opened, open_shards_of(folder, names, options));
  SetBuilder builder(options);
  for (std::size_t i = 0; i < names.size(); ++i) builder.add_whole(std::move(opened[i]), names[i]);
  return builder.finish();
}

Result<Checkpoint> Checkpoint::open_shards(const std::vector<std::filesystem::path>& paths,
                                           const OpenOptions& options) {
  return open_paths(paths, options, sniff_any);
}

Result<Checkpoint> Checkpoint::open_shards(
    const std::vector<std::shared_ptr<const ByteSource>>& sources, const OpenOptions& options) {
  FLATBED_TRY(check_shard_count(sources.size()));
  SetBuilder builder(options);
  for (const std::shared_ptr<const ByteSource>& source : sources) {
    FLATBED_ASSIGN(std::shared_ptr<const ByteSource> guarded, GuardedSource::wrap(source));
    const std::string label(guarded->label());
    const Shard shard{std::move(guarded), label, {options.check_seal, {}}};
    FLATBED_TRY(builder.add_whole(shard, sniff(*shard.source)));
  }
  return builder.finish();
}

}  // namespace flatbed
