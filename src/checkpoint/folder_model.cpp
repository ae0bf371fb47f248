#include "checkpoint/folder_model.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "base/ascii.hpp"
#include "base/str_cat.hpp"
#include "checkpoint/set_index.hpp"
#include "io/system_error.hpp"
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

// A number of decimal digits. One that does not fit becomes the largest that does, which is beyond
// every limit.
std::optional<std::uint32_t> whole_number(std::string_view digits) {
  std::uint32_t value = 0;
  const char* const last = digits.data() + digits.size();
  const auto [end, error] = std::from_chars(digits.data(), last, value);
  if (end != last || error == std::errc::invalid_argument) return std::nullopt;
  return error == std::errc() ? value : std::numeric_limits<std::uint32_t>::max();
}

// BASE-K-of-N.safetensors or BASE-K-of-N.VARIANT.safetensors, or the same of another ending.
std::optional<ShardName> shard_name(std::string_view name) {
  constexpr std::string_view kOf = "-of-";
  for (std::size_t of = name.rfind(kOf); of != std::string_view::npos && of > 0;
       of = name.rfind(kOf, of - 1)) {
    const std::size_t dash = name.rfind('-', of - 1);
    if (dash == std::string_view::npos) return std::nullopt;
    const std::string_view after = name.substr(of + kOf.size());
    const auto number = whole_number(name.substr(dash + 1, of - dash - 1));
    const auto count = whole_number(after.substr(0, after.find('.')));
    if (number && count)
      return ShardName{*number, *count, str_cat(name.substr(0, dash), "-*", name.substr(of))};
  }
  return std::nullopt;
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
  // Takes the entry that has this name, in lower case, if it `may_be` a file of a model.
  template <typename MayBeFile>
  void add(const fs::path& path, MayBeFile may_be) {
    const std::string name = lower_case(path.filename().native());
    distributed = distributed || name == ".metadata" || name.ends_with(".distcp");
    const Rank rank = name.starts_with('.') ? Rank::none : rank_of(name);
    if (rank != Rank::none && may_be()) by_rank[static_cast<std::size_t>(rank)].push_back(path);
  }
  void sort() {
    for (std::vector<fs::path>& paths : by_rank) std::ranges::sort(paths, {}, &fs::path::native);
  }

  std::array<std::vector<fs::path>, kRanks> by_rank;
  bool distributed = false;
};

// A regular file; or what cannot be looked at, such as a link that leads nowhere, which an
// interrupted download leaves: opening it says so, and no other file takes its place.
bool may_be_file(const fs::directory_entry& entry) {
  std::error_code ignored;
  const fs::file_type type = entry.status(ignored).type();
  if (type == fs::file_type::not_found) return entry.is_symlink(ignored);
  return type == fs::file_type::regular || type == fs::file_type::none;
}

Result<Found> list_models(const fs::path& directory) {
  Found found;
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    found.add(entry->path(), [&] { return may_be_file(*entry); });
  }
  if (error) return system_error(error.value(), quoted(directory.native()));
  found.sort();
  return found;
}

// "model.fp16.safetensors" beside "model.safetensors" is a variant, which is chosen by name.
// Training leaves other .bin files beside pytorch_model.bin.
void prefer_plain(std::vector<fs::path>& files) {
  constexpr std::string_view kPytorchModel = "pytorch_model.bin";
  std::set<std::string, std::less<>> names;  // in lower case
  for (const fs::path& path : files) names.insert(lower_case(path.filename().native()));
  const bool pytorch = names.contains(kPytorchModel);
  std::erase_if(files, [&](const fs::path& path) {
    const std::string name = lower_case(path.filename().native());
    if (pytorch) return name != kPytorchModel;
    const std::size_t ending = name.rfind('.');
    const std::size_t variant = name.rfind('.', ending - 1);
    return variant != std::string::npos &&
           names.contains(str_cat(name.substr(0, variant), name.substr(ending)));
  });
}

Error ambiguous(const fs::path& directory, const std::vector<std::string>& names) {
  std::string list;
  for (std::size_t i = 0; i < std::min(names.size(), kShown); ++i)
    list += str_cat(i == 0 ? "" : ", ", quoted(names[i]));
  if (names.size() > kShown) list += str_cat(" and ", names.size() - kShown, " more");
  return make_error(ErrorCode::index_ambiguous, quoted(directory.native()), ": found ",
                    names.size(), " models, expected one: ", list, "; name the one to open");
}

// The names of the shards by number. Each number is in 1..count, and no two files have the same.
using Numbers = std::map<std::uint32_t, const std::string>;

Result<Numbers> number_shards(const fs::path& directory, const std::vector<fs::path>& paths) {
  Numbers numbers;
  for (const fs::path& path : paths) {
    const std::string name = path.filename().native();
    const std::optional<ShardName> shard = shard_name(lower_case(name));
    if (!shard) continue;
    if (shard->number == 0 || shard->number > shard->count)
      return make_error(ErrorCode::index_ambiguous, quoted(directory.native()),
                        ": there is no index, and the shard ", quoted(name),
                        " has a number outside 1 to ", shard->count);
    const auto [there, added] = numbers.emplace(shard->number, name);
    if (!added)
      return make_error(ErrorCode::index_ambiguous, quoted(directory.native()),
                        ": there is no index, and two shards have the number ", shard->number, ": ",
                        quoted(there->second), " and ", quoted(name));
  }
  return numbers;
}

// The one set of these shards, which must be complete. `paths` are in byte order.
Result<FolderModel> find_shards(const fs::path& directory, std::vector<fs::path> paths) {
  std::set<std::string> sets;
  std::uint32_t count = 0;
  for (const fs::path& path : paths) {
    const std::optional<ShardName> shard = shard_name(lower_case(path.filename().native()));
    if (!shard) continue;
    sets.insert(shard->set);
    count = shard->count;
  }
  if (sets.size() != 1) return ambiguous(directory, {sets.begin(), sets.end()});
  FLATBED_ASSIGN(const Numbers numbers, number_shards(directory, paths));
  for (std::uint32_t number = 1; number <= count; ++number) {
    if (!numbers.contains(number))
      return make_error(ErrorCode::shard_missing, quoted(directory.native()),
                        ": there is no index, and of the shards ", quoted(*sets.begin()),
                        " number ", number, " of ", count, " is missing");
  }
  if (count > kMaxShards)
    return make_error(ErrorCode::limit_exceeded, quoted(directory.native()),
                      ": too many shards: found ", count, ", the limit is ", kMaxShards);
  return FolderModel{{}, std::move(paths)};
}

Result<FolderModel> choose(const fs::path& directory, Found found) {
  for (std::size_t i = 0; i < kRanks; ++i) {
    std::vector<fs::path>& paths = found.by_rank[i];
    const auto rank = static_cast<Rank>(i);
    if (rank == Rank::file || rank == Rank::bin_file) prefer_plain(paths);
    if (rank == Rank::torch_file && found.distributed) break;
    if (paths.empty()) continue;
    if (rank == Rank::shards || rank == Rank::bin_shards)
      return find_shards(directory, std::move(paths));
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

}  // namespace

Result<FolderModel> find_model(const fs::path& directory) {
  FLATBED_ASSIGN(Found found, list_models(directory));
  return choose(directory, std::move(found));
}

Result<FolderModel> find_model(std::string_view label, const std::vector<std::string>& names) {
  Found found;
  for (const std::string& name : names) {
    if (name.find('/') == name.npos) found.add(name, [] { return true; });
  }
  found.sort();
  return choose(label, std::move(found));
}

}  // namespace flatbed
