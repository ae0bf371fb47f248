#include "checkpoint/folder_model.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

#include "base/str_cat.hpp"
#include "checkpoint/set_index.hpp"
#include "torch/torch_file.hpp"

namespace flatbed {

namespace {

namespace fs = std::filesystem;

constexpr std::size_t kShown = 8;

// What a name says, in the order of preference.
enum class Rank : std::uint8_t {
  index,
  file,
  variant_index,
  shards,
  bin_index,
  bin_file,
  bin_variant_index,
  bin_shards,
  torch_file,
  none,
};
constexpr auto kRanks = static_cast<std::size_t>(Rank::none);

// "model-00001-of-00005.safetensors": the number, how many there are, and the rest of the name.
struct ShardName {
  std::uint32_t number = 0;
  std::uint32_t count = 0;
  std::string set;
};

std::optional<std::uint32_t> whole_number(std::string_view digits) {
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  const bool whole = error == std::errc() && end == digits.data() + digits.size();
  return whole ? std::optional(value) : std::nullopt;
}

std::optional<ShardName> shard_name(std::string_view name) {
  constexpr std::string_view kOf = "-of-";
  const std::size_t of = name.rfind(kOf);
  if (of == std::string_view::npos) return std::nullopt;
  const std::size_t dash = name.substr(0, of).rfind('-');
  if (dash == std::string_view::npos) return std::nullopt;
  const std::string_view after = name.substr(of + kOf.size());
  const std::string_view total = after.substr(0, after.find('.'));
  const auto number = whole_number(name.substr(dash + 1, of - dash - 1));
  const auto count = whole_number(total);
  if (!number || !count || *count == 0 || *count > kMaxShards) return std::nullopt;
  return ShardName{*number, *count, str_cat(name.substr(0, dash), "-*", name.substr(of))};
}

// `name` is in lower case.
Rank rank_of(std::string_view name) {
  constexpr std::string_view kIndex = ".safetensors.index.";
  constexpr std::string_view kBinIndex = ".bin.index.";
  if (name.ends_with(".safetensors.index.json")) return Rank::index;
  if (name.ends_with(".bin.index.json")) return Rank::bin_index;
  if (name.ends_with(".json")) {
    if (name.find(kIndex) != std::string_view::npos) return Rank::variant_index;
    return name.find(kBinIndex) != std::string_view::npos ? Rank::bin_variant_index : Rank::none;
  }
  const bool shard = shard_name(name).has_value();
  if (name.ends_with(".safetensors")) return shard ? Rank::shards : Rank::file;
  if (name.ends_with(".bin")) return shard ? Rank::bin_shards : Rank::bin_file;
  const bool torch = name.ends_with(".pth") || name.ends_with(".pt") || name.ends_with(".ckpt");
  return torch ? Rank::torch_file : Rank::none;
}

struct Found {
  std::array<std::vector<fs::path>, kRanks> by_rank;
  bool distributed = false;
};

// A regular file, or a link that leads to nothing, as an interrupted download leaves: opening it
// says so.
bool may_be_file(const fs::directory_entry& entry) {
  std::error_code ignored;
  const fs::file_type type = entry.status(ignored).type();
  return type == fs::file_type::regular || (type == fs::file_type::not_found && entry.is_symlink());
}

Result<Found> list_models(const fs::path& directory) {
  Found found;
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = lower_case(entry->path().filename().native());
    found.distributed = found.distributed || name == ".metadata" || name.ends_with(".distcp");
    const Rank rank = name.starts_with('.') ? Rank::none : rank_of(name);
    if (rank == Rank::none || !may_be_file(*entry)) continue;
    found.by_rank[static_cast<std::size_t>(rank)].push_back(entry->path());
  }
  if (error)
    return make_error(ErrorCode::io_error, quoted(directory.native()), ": ", error.message());
  for (std::vector<fs::path>& paths : found.by_rank) std::ranges::sort(paths);
  return found;
}

// "model.fp16.safetensors" beside "model.safetensors" is a variant, which is chosen by name.
// Training leaves other .bin files beside pytorch_model.bin.
void prefer_plain(std::vector<fs::path>& files) {
  const auto named = [&](const std::string& name) {
    return std::ranges::any_of(
        files, [&](const fs::path& path) { return lower_case(path.filename().native()) == name; });
  };
  if (named("pytorch_model.bin")) {
    std::erase_if(files, [](const fs::path& path) {
      return lower_case(path.filename().native()) != "pytorch_model.bin";
    });
    return;
  }
  std::vector<fs::path> plain;
  for (const fs::path& path : files) {
    const std::string name = lower_case(path.filename().native());
    const std::string ending = path.extension().native();
    const std::string stem = path.stem().native();
    const std::size_t dot = stem.rfind('.');
    const bool variant = dot != std::string::npos && dot != 0 &&
                         named(lower_case(str_cat(stem.substr(0, dot), ending)));
    if (!variant) plain.push_back(path);
  }
  files = std::move(plain);
}

Error ambiguous(const fs::path& directory, const std::vector<std::string>& names) {
  std::string list;
  for (std::size_t i = 0; i < std::min(names.size(), kShown); ++i)
    list += str_cat(i == 0 ? "" : ", ", quoted(names[i]));
  if (names.size() > kShown) list += str_cat(" and ", names.size() - kShown, " more");
  return make_error(ErrorCode::index_ambiguous, quoted(directory.native()), ": found ",
                    names.size(), " models, expected one: ", list, "; name the one to open");
}

// The one set of these shards, which must be complete.
Result<FolderModel> find_shards(const fs::path& directory, const std::vector<fs::path>& paths) {
  std::map<std::string, std::map<std::uint32_t, fs::path>> sets;
  std::uint32_t count = 0;
  for (const fs::path& path : paths) {
    const std::string name = lower_case(path.filename().native());
    const std::optional<ShardName> shard = shard_name(name);
    if (!shard) continue;
    sets[shard->set].emplace(shard->number, path);
    count = shard->count;
  }
  if (sets.size() != 1) {
    std::vector<std::string> names;
    for (const auto& [set, shards] : sets) names.push_back(set);
    return ambiguous(directory, names);
  }
  const auto& [set, shards] = *sets.begin();
  FolderModel model;
  for (std::uint32_t number = 1; number <= count; ++number) {
    const auto shard = shards.find(number);
    if (shard == shards.end())
      return make_error(ErrorCode::shard_missing, quoted(directory.native()),
                        ": there is no index, and of the shards ", quoted(set), " number ", number,
                        " of ", count, " is missing");
    model.shards.push_back(shard->second);
  }
  return model;
}

}  // namespace

Result<FolderModel> find_model(const fs::path& directory) {
  FLATBED_ASSIGN(Found found, list_models(directory));
  for (std::size_t i = 0; i < kRanks; ++i) {
    std::vector<fs::path>& paths = found.by_rank[i];
    const auto rank = static_cast<Rank>(i);
    if (rank == Rank::file || rank == Rank::bin_file) prefer_plain(paths);
    if (rank == Rank::torch_file && found.distributed) break;
    if (paths.empty()) continue;
    if (rank == Rank::shards || rank == Rank::bin_shards) return find_shards(directory, paths);
    if (paths.size() == 1) return FolderModel{std::move(paths.front()), {}};
    std::vector<std::string> names;
    for (const fs::path& path : paths) names.push_back(path.filename().native());
    return ambiguous(directory, names);
  }
  if (found.distributed)
    return make_error(ErrorCode::unsupported_layout, quoted(directory.native()), " is ",
                      pth::kDistributedAdvice);
  return make_error(ErrorCode::index_ambiguous, quoted(directory.native()),
                    " holds no model: no .safetensors, .bin, .pth, .pt or .ckpt file and no index "
                    "of such files");
}

}  // namespace flatbed
