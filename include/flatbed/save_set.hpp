// save_set(): writes a checkpoint as a sharded set: a folder in the Hub's layout, for models that
// are too large for one file.
//
//   FLATBED_ASSIGN(const SavePlan plan, make_plan(checkpoint));
//   FLATBED_ASSIGN(const SaveSetReport report, save_set("folder", plan));
//
//   folder/model-00001-of-00002.safetensors     each as save() writes a file
//   folder/model-00002-of-00002.safetensors
//   folder/model.safetensors.index.json         which tensor is where (spec H1, H4, H6)
//
// If one file is enough, it is folder/model.safetensors, and there is no index. The first file has
// the plan's tree, aliases and metadata, which speak for the set (spec H3).
//
// A set is new, or nothing is written: the folder must not exist, or be empty. It is written whole
// under a temporary name beside it, shards first and the index last, synced, and then renamed. With
// `replace` an old set is swapped with the new one in one step and then removed. So a reader sees
// the old set or the new one, also after a crash, and never files of both. The next save beside the
// folder removes what a killed process left there. A plan that reads only memory takes the
// permissions that all files of the old set share.
//
// Memory is that of save() plus the names, shapes and index of the whole set.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "flatbed/byte_sink.hpp"
#include "flatbed/export.hpp"
#include "flatbed/result.hpp"
#include "flatbed/save.hpp"
#include "flatbed/save_compare.hpp"
#include "flatbed/save_plan.hpp"
#include "flatbed/source_folder.hpp"

namespace flatbed {

// The default of the Hub's library, "5GB", in bytes.
inline constexpr std::uint64_t kDefaultShardNbytes = 5'000'000'000;

struct PlannedShard {
  std::string file_name;
  std::vector<std::uint32_t> items;  // of the plan, by number, in its order
  std::uint64_t nbytes = 0;          // of these items
};

// Cuts the plan as huggingface_hub cuts a state dict of these tensors in this order. A shard is
// closed when the next tensor would make its tensors more than `max_shard_nbytes`. A tensor that
// alone is more takes a shard of its own, which comes before the one that is being filled: of
// [small, huge, small] that is [huge], [small, small]. A plan without tensors is one shard.
// Errors: those of save() for items that do not fit their shapes, invalid_argument (0 bytes),
// limit_exceeded (10,000 shards).
[[nodiscard]] FLATBED_EXPORT Result<std::vector<PlannedShard>> plan_shards(
    const SavePlan& plan, std::uint64_t max_shard_nbytes = kDefaultShardNbytes);

struct SaveSetOptions {
  std::uint64_t max_shard_nbytes = kDefaultShardNbytes;
  // Whether a folder that holds an old set may be replaced. It must hold nothing but the files of a
  // set with the names above: nothing else is ever removed. Default: false.
  bool replace = false;
  SaveOptions file = {};  // for each file. Its `replace` has no effect.
};

struct SavedShard {
  std::string file_name;
  std::uint64_t tensors = 0;
  std::uint64_t nbytes = 0;  // size of the file; 0 after a dry run
  std::string content;       // the seal's content digest; empty if unsealed or after a dry run
};

struct SaveSetReport {
  // Of all files: nbytes with the index; the longest header; `content` only of a single file.
  SaveReport files;
  std::vector<SavedShard> shards;
  std::vector<std::string> notes;  // one sentence each: an old folder that could not be removed
};

// Blocking. May be called from several threads for different folders. Errors: those of save() and
// plan_shards(); name_collision (two tensors of one name); limit_exceeded (names that need a larger
// index than readers take); file_exists (a file or a link, a folder that is not empty, or with
// `replace` holds anything but a set); unsupported_filesystem (with `replace`, where the file
// system cannot swap two folders, which is usually found out before anything is written).
[[nodiscard]] FLATBED_EXPORT Result<SaveSetReport> save_set(const std::filesystem::path& folder,
                                                            const SavePlan& plan,
                                                            const SaveSetOptions& options = {});

// The same set, written to `folder`, which is begun and, unless it is a dry run, committed. The
// `replace` of the options and `file.sync` have no effect: what is already there is the folder's
// business. Errors: those of save_set() that have nothing to do with the new folder, those of the
// folder and its sinks.
[[nodiscard]] FLATBED_EXPORT Result<SaveSetReport> save_set(SinkFolder& folder,
                                                            const SavePlan& plan,
                                                            const SaveSetOptions& options = {});

// compare_output() for a set: compares each file with what save_set() would write, the index byte
// for byte. A file of a set that is not one of this set is a difference; other files, such as a
// config.json, are none. `absent`: there is no folder, or an empty one. Of the options, those count
// that compare_output() uses, and max_shard_nbytes.
[[nodiscard]] FLATBED_EXPORT Result<OutputState> compare_set_output(
    const std::filesystem::path& folder, const SavePlan& plan, const SaveSetOptions& options = {},
    CompareData data = CompareData::sampled);

// The same for a folder that is not local, and can be listed. Errors: those of the folder and its
// files, too.
[[nodiscard]] FLATBED_EXPORT Result<OutputState> compare_set_output(
    const SourceFolder& folder, const SavePlan& plan, const SaveSetOptions& options = {},
    CompareData data = CompareData::sampled);

}  // namespace flatbed
