// compare_set_output(): each file by compare_planned(), the index by its bytes.
#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string_view>
#include <system_error>
#include <utility>

#include "base/str_cat.hpp"
#include "flatbed/save_set.hpp"
#include "flatbed/save_text.hpp"
#include "io/leftover.hpp"
#include "io/set_files.hpp"
#include "save/compare_planned.hpp"
#include "save/output_file.hpp"
#include "save/set_parts.hpp"

namespace flatbed {

namespace {

namespace fs = std::filesystem;

OutputState different(std::string what) { return {OutputKind::different, std::move(what), 0, {}}; }

// absent; different; or nullopt if the files must be compared.
std::optional<OutputState> judge_names(std::span<const std::string> names,
                                       std::span<const PlannedShard> shards) {
  std::set<std::string> expected;
  for (const PlannedShard& shard : shards) expected.insert(shard.file_name);
  if (shards.size() > 1) expected.emplace(kSetIndexName);
  for (const std::string& name : names) {
    if (is_set_file_name(name) && !expected.contains(name))
      return different(str_cat("found ", quoted(name), ", which is not part of the set"));
  }
  return names.empty() ? std::optional<OutputState>(OutputState{}) : std::nullopt;
}

// The same. A link to a folder counts as that.
std::optional<OutputState> judge_folder(const fs::path& folder,
                                        std::span<const PlannedShard> shards) {
  std::error_code failed;
  // Where the name cannot be looked up, the save will say why.
  if (!fs::exists(fs::symlink_status(folder, failed))) return OutputState{};
  if (!fs::is_directory(folder, failed)) return different("found no folder, expected one");
  std::vector<std::string> names;
  for (fs::directory_iterator at(folder, failed), end; !failed && at != end; at.increment(failed)) {
    std::string name = at->path().filename().native();
    if (!is_temporary_name(name)) names.push_back(std::move(name));
  }
  if (failed) return different(str_cat("the folder cannot be read: ", failed.message()));
  return judge_names(names, shards);
}

Result<OutputState> in_file(std::string_view file, Result<OutputState> compared) {
  if (!compared || compared->kind == OutputKind::up_to_date) return compared;
  if (compared->kind == OutputKind::absent) return different(str_cat("there is no ", quoted(file)));
  return different(str_cat(quoted(file), ": ", compared->difference));
}

// Compare the files of one folder.
struct FileComparisons {
  std::function<Result<OutputState>(const std::string& name, const PlannedOutput& output)> shard;
  std::function<Result<OutputState>(const std::string& name, std::string_view text)> index;
};

Result<OutputState> compare_files(const SetParts& parts, const SaveSetOptions& options,
                                  CompareData data, const FileComparisons& compare) {
  OutputState all;
  all.kind = OutputKind::up_to_date;
  std::vector<std::string> contents;
  std::uint64_t bytes_before = 0;
  for (std::size_t i = 0; i < parts.shards().size(); ++i) {
    const PlannedShard& shard = parts.shards()[i];
    const SavePlan part = parts.plan_of(i);
    const SaveOptions file_options = parts.file_options(bytes_before);
    const PlannedOutput output{part, file_options, data, [&] { return parts.header(part, i); }};
    FLATBED_ASSIGN(OutputState state,
                   in_file(shard.file_name, compare.shard(shard.file_name, output)));
    if (state.kind != OutputKind::up_to_date) return state;
    all.nbytes += state.nbytes;
    bytes_before += shard.nbytes;
    if (options.file.seal) contents.push_back(std::move(state.content));
  }
  if (parts.shards().size() > 1) {
    FLATBED_ASSIGN(const std::string text, parts.index(contents));
    FLATBED_ASSIGN(OutputState state,
                   in_file(kSetIndexName, compare.index(std::string(kSetIndexName), text)));
    if (state.kind != OutputKind::up_to_date) return state;
    all.nbytes += state.nbytes;
  } else if (!contents.empty()) {
    all.content = std::move(contents[0]);
  }
  return all;
}

// A file of a folder that is not local: absent, or compared by `compare`.
Result<OutputState> compare_opened(
    const SourceFolder& folder, const std::string& name,
    const std::function<Result<OutputState>(const OutputFile&)>& compare) {
  Result<std::shared_ptr<const ByteSource>> file = folder.open(name);
  if (file) return compare(OutputFile(*std::move(file)));
  if (file.error().code == ErrorCode::file_not_found) return OutputState{};
  return std::move(file).error();
}

}  // namespace

Result<OutputState> compare_set_output(const fs::path& folder, const SavePlan& plan,
                                       const SaveSetOptions& options, CompareData data) {
  FLATBED_ASSIGN(const SetParts parts, SetParts::of(plan, options));
  if (std::optional<OutputState> judged = judge_folder(folder, parts.shards()))
    return *std::move(judged);
  return compare_files(parts, options, data,
                       {[&](const std::string& name, const PlannedOutput& output) {
                          return compare_planned(folder / name, output);
                        },
                        [&](const std::string& name, std::string_view text) {
                          return compare_text_output(folder / name, text);
                        }});
}

Result<OutputState> compare_set_output(const SourceFolder& folder, const SavePlan& plan,
                                       const SaveSetOptions& options, CompareData data) {
  FLATBED_ASSIGN(const SetParts parts, SetParts::of(plan, options));
  FLATBED_ASSIGN(const std::vector<std::string> names, folder.names());
  if (std::optional<OutputState> judged = judge_names(names, parts.shards()))
    return *std::move(judged);
  return compare_files(parts, options, data,
                       {[&](const std::string& name, const PlannedOutput& output) {
                          return compare_opened(folder, name, [&](const OutputFile& file) {
                            return compare_planned(file, output);
                          });
                        },
                        [&](const std::string& name, std::string_view text) {
                          return compare_opened(folder, name, [&](const OutputFile& file) {
                            return compare_text(file, text);
                          });
                        }});
}

}  // namespace flatbed
