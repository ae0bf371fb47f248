// plan_shards(), save_set() and compare_set_output(): how a plan is cut, and what is in the folder.
#include "flatbed/save_set.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.hpp"
#include "save/set_parts.hpp"
#include "support/expect_error.hpp"
#include "support/fault_io.hpp"
#include "support/pickle_asm.hpp"
#include "support/temp_dir.hpp"
#include "support/zip_builder.hpp"

namespace flatbed {
namespace {

namespace fs = std::filesystem;
using test::FaultIo;
using test::IoCall;
using test::read_file;
using test::TempDir;
using test::write_file;
using Names = std::vector<std::string>;

constexpr const char* kIndex = "model.safetensors.index.json";
constexpr const char* kBytes = "0123456789abcdef0123456789abcdef";

SaveItem item(std::string name, std::size_t nbytes) {
  return {std::move(name), Dtype::u8, {nbytes}, as_bytes(std::string_view(kBytes, nbytes))};
}

SavePlan plan_of(std::vector<SaveItem> items) {
  SavePlan plan;
  plan.items = std::move(items);
  return plan;
}

// Three tensors in two shards of 16 bytes, a tree over all, and an alias of the last.
SavePlan tied_plan() {
  SavePlan plan = plan_of({item("a", 10), item("b", 6), item("c", 16)});
  const NodeId root = plan.tree.add_dict();
  plan.tree.set_item(root, plan.tree.add_string("epoch"), plan.tree.add_integer(3));
  for (std::uint32_t i = 0; i < 3; ++i) {
    plan.tree.set_item(root, plan.tree.add_string(plan.items[i].name), plan.tree.add_tensor(i, {}));
  }
  plan.tree.set_root(root);
  plan.aliases = {{"tied", "c"}};
  plan.metadata = {{"format", "pt"}, {"made_by", "a test"}};
  return plan;
}

// "a b|c": the names of each shard.
std::string cut(const SavePlan& plan, std::uint64_t max_shard_nbytes) {
  const auto shards = plan_shards(plan, max_shard_nbytes);
  if (!shards) return shards.error().message;
  std::string text;
  for (const PlannedShard& shard : *shards) {
    if (!text.empty()) text += '|';
    for (const std::uint32_t i : shard.items) {
      if (i != shard.items[0]) text += ' ';
      text += plan.items[i].name;
    }
  }
  return text;
}

Names names_in(const fs::path& folder) {
  Names names;
  for (const auto& entry : fs::directory_iterator(folder))
    names.push_back(entry.path().filename().native());
  std::ranges::sort(names);
  return names;
}

std::string found(const Result<OutputState>& state) {
  if (!state) return state.error().message;
  if (state->kind == OutputKind::different) return state->difference;
  return state->kind == OutputKind::absent ? "absent" : "up to date";
}

TEST(PlanShards, FillsAShardToTheLastByte) {
  const SavePlan plan = plan_of({item("a", 4), item("b", 4), item("c", 4), item("d", 1)});
  EXPECT_EQ(cut(plan, 8), "a b|c d");
  EXPECT_EQ(cut(plan, 7), "a|b|c d");
  EXPECT_EQ(cut(plan, 13), "a b c d");
}

TEST(PlanShards, AnOversizedTensorComesBeforeTheShardThatIsBeingFilled) {
  EXPECT_EQ(cut(plan_of({item("a", 4), item("big", 9), item("b", 4)}), 8), "big|a b");
  EXPECT_EQ(cut(plan_of({item("big", 9), item("a", 4), item("large", 10)}), 8), "big|large|a");
}

TEST(PlanShards, ATensorOfTheWholeSizeIsNotOversized) {
  EXPECT_EQ(cut(plan_of({item("a", 4), item("full", 8), item("b", 4)}), 8), "a|full|b");
}

TEST(PlanShards, EmptyTensorsStayInTheShardThatIsBeingFilled) {
  EXPECT_EQ(cut(plan_of({item("a", 8), item("none", 0), item("b", 1)}), 8), "a none|b");
}

TEST(PlanShards, NamesAreTheHubs) {
  const auto shards = plan_shards(plan_of({item("a", 4), item("b", 4)}), 4);
  ASSERT_OK(shards);
  EXPECT_EQ((*shards)[0].file_name, "model-00001-of-00002.safetensors");
  EXPECT_EQ((*shards)[1].file_name, "model-00002-of-00002.safetensors");
  EXPECT_EQ((*shards)[1].nbytes, 4u);
  EXPECT_EQ((*plan_shards(plan_of({item("a", 4)})))[0].file_name, "model.safetensors");
  EXPECT_EQ((*plan_shards(SavePlan{}))[0].file_name, "model.safetensors");
}

TEST(PlanShards, SizesAndCountsAreChecked) {
  EXPECT_ERROR(plan_shards(plan_of({item("a", 4)}), 0), invalid_argument);
  SavePlan plan = plan_of({item("a", 4)});
  plan.items[0].shape = {5};
  EXPECT_ERROR(plan_shards(plan), shape_mismatch);
  plan.items.assign(10'000, item("a", 1));
  EXPECT_OK(plan_shards(plan, 1));
  plan.items.push_back(item("a", 1));
  EXPECT_ERROR(plan_shards(plan, 1), limit_exceeded);
}

TEST(SaveSet, TheIndexIsThatOfTheHubWithTheDigestsOfTheShards) {
  const TempDir dir;
  const Result<SaveSetReport> report = save_set(dir / "set", tied_plan(), {.max_shard_nbytes = 16});
  ASSERT_OK(report);
  EXPECT_EQ(names_in(dir / "set"), (Names{"model-00001-of-00002.safetensors",
                                          "model-00002-of-00002.safetensors", kIndex}));
  EXPECT_EQ(read_file(dir / "set" / kIndex),
            R"({
  "metadata": {
    "flatbed.shards": "1/)" +
                report->shards[0].content + report->shards[1].content + R"(",
    "total_parameters": 32,
    "total_size": 32
  },
  "weight_map": {
    "a": "model-00001-of-00002.safetensors",
    "b": "model-00001-of-00002.safetensors",
    "c": "model-00002-of-00002.safetensors"
  }
}
)");
  EXPECT_EQ(report->files.durability, Durability::committed);
  std::uint64_t nbytes = 0;
  for (const std::string& name : names_in(dir / "set")) nbytes += fs::file_size(dir / "set" / name);
  EXPECT_EQ(report->files.nbytes, nbytes);
}

TEST(SaveSet, TreeAliasesAndMetadataSpeakForTheSet) {
  const TempDir dir;
  ASSERT_OK(save_set(dir / "set", tied_plan(), {.max_shard_nbytes = 16}));
  const auto checkpoint = Checkpoint::open(dir / "set", {.check_seal = CheckSeal::required});
  ASSERT_OK(checkpoint);
  EXPECT_EQ(checkpoint->tensors().size(), 3u);
  EXPECT_EQ(checkpoint->notes().size(), 0u);
  ASSERT_NE(checkpoint->find("tied"), nullptr);
  EXPECT_EQ(checkpoint->find("tied")->name, "c");
  ASSERT_OK(checkpoint->tree());
  EXPECT_EQ(checkpoint->tree()->at("epoch")->as_int(), 3);
  const auto second = Checkpoint::open(dir / "set/model-00002-of-00002.safetensors");
  ASSERT_OK(second);
  EXPECT_FALSE(second->has_tree());
  for (const auto& [key, value] : second->metadata()) EXPECT_NE(key, "made_by");
}

TEST(SaveSet, MergesIntoTheFileThatWouldHaveBeenWritten) {
  const TempDir dir;
  const SavePlan plan = tied_plan();
  ASSERT_OK(save(dir / "whole.safetensors", plan));
  ASSERT_OK(save_set(dir / "set", plan, {.max_shard_nbytes = 16}));
  const auto set = Checkpoint::open(dir / "set");
  ASSERT_OK(set);
  const Result<SavePlan> merged = make_plan(*set);
  ASSERT_OK(merged);
  ASSERT_OK(save(dir / "merged.safetensors", *merged));
  EXPECT_EQ(read_file(dir / "merged.safetensors"), read_file(dir / "whole.safetensors"));
}

TEST(SaveSet, OneShardIsAFileWithoutIndex) {
  const TempDir dir;
  const SavePlan plan = tied_plan();
  ASSERT_OK(save(dir / "whole.safetensors", plan));
  const Result<SaveSetReport> report = save_set(dir / "set", plan);
  ASSERT_OK(report);
  EXPECT_EQ(names_in(dir / "set"), Names{"model.safetensors"});
  EXPECT_EQ(read_file(dir / "set/model.safetensors"), read_file(dir / "whole.safetensors"));
  EXPECT_EQ(report->files.content, report->shards[0].content);
}

TEST(SaveSet, WithoutSealTheIndexHasNoDigests) {
  const TempDir dir;
  ASSERT_OK(save_set(dir / "set", tied_plan(), {.max_shard_nbytes = 16, .file = {.seal = false}}));
  EXPECT_EQ(read_file(dir / "set" / kIndex).find("flatbed"), std::string::npos);
  EXPECT_EQ(Checkpoint::open(dir / "set")->seal(), SealState::unsealed);
}

TEST(SaveSet, TheIndexHasTheDigestsOfAtMost6000Shards) {
  const SavePlan plan = tied_plan();
  const SaveSetOptions options;
  const auto parts = SetParts::of(plan, options);
  ASSERT_OK(parts);
  const Names contents(6'001, "0123456789abcdef");
  const auto all = parts->index(contents);
  ASSERT_OK(all);
  EXPECT_EQ(all->find("flatbed.shards"), std::string::npos);
  const auto fewer = parts->index(std::span(contents).first(6'000));
  ASSERT_OK(fewer);
  EXPECT_NE(fewer->find("\"flatbed.shards\": \"1/0123456789abcdef"), std::string::npos);
}

TEST(SaveSet, TwoTensorsOfOneNameInDifferentShardsAreRefused) {
  const TempDir dir;
  EXPECT_ERROR(
      save_set(dir / "set", plan_of({item("a", 4), item("a", 4)}), {.max_shard_nbytes = 4}),
      name_collision);
  EXPECT_EQ(dir.names(), Names{});
}

TEST(SaveSet, AnOldSetIsReplacedOnlyIfAskedAndWhole) {
  const TempDir dir;
  ASSERT_OK(save_set(dir / "set", tied_plan(), {.max_shard_nbytes = 8}));
  const Names old = names_in(dir / "set");
  EXPECT_ERROR(save_set(dir / "set", tied_plan(), {.max_shard_nbytes = 16}), file_exists);
  EXPECT_EQ(names_in(dir / "set"), old);
  ASSERT_OK(save_set(dir / "set", tied_plan(), {.max_shard_nbytes = 16, .replace = true}));
  EXPECT_EQ(names_in(dir / "set").size(), 3u);
  EXPECT_EQ(dir.names(), Names{"set"});
}

TEST(SaveSet, ADryRunFindsErrorsAndLeavesNothing) {
  const TempDir dir;
  SaveSetOptions options{.max_shard_nbytes = 16, .file = {.dry_run = true}};
  const Result<SaveSetReport> report = save_set(dir / "set", tied_plan(), options);
  ASSERT_OK(report);
  EXPECT_EQ(report->shards.size(), 2u);
  EXPECT_EQ(dir.names(), Names{});
  write_file(dir / "set", "mine");
  EXPECT_ERROR(save_set(dir / "set", tied_plan(), options), file_exists);
}

TEST(SaveSet, DamageOfASealedSourceIsFoundAndNothingIsWritten) {
  const TempDir dir;
  ASSERT_OK(save(dir / "a.safetensors", tied_plan()));
  std::string bytes = read_file(dir / "a.safetensors");
  bytes.back() = '!';
  write_file(dir / "a.safetensors", bytes);
  const auto checkpoint = Checkpoint::open(dir / "a.safetensors");
  ASSERT_OK(checkpoint);
  EXPECT_ERROR(save_set(dir / "set", *make_plan(*checkpoint), {.max_shard_nbytes = 16}),
               chunk_corrupt);
  EXPECT_EQ(dir.names(), Names{"a.safetensors"});
}

TEST(SaveSet, FilesHaveThePermissionsOfTheSource) {
  const TempDir dir;
  ASSERT_OK(save(dir / "a.safetensors", tied_plan()));
  ASSERT_EQ(::chmod((dir / "a.safetensors").c_str(), 0600), 0);
  const auto checkpoint = Checkpoint::open(dir / "a.safetensors");
  ASSERT_OK(save_set(dir / "set", *make_plan(*checkpoint), {.max_shard_nbytes = 16}));
  for (const std::string& name : names_in(dir / "set")) {
    struct stat status = {};
    ASSERT_EQ(::stat((dir / "set" / name).c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0600u) << name;
  }
}

TEST(SaveSet, FilesFromMemoryHaveThePermissionsOfThoseTheyReplace) {
  const TempDir dir;
  ASSERT_OK(save_set(dir / "set", tied_plan(), {.max_shard_nbytes = 8}));
  for (const std::string& name : names_in(dir / "set"))
    ASSERT_EQ(::chmod((dir / "set" / name).c_str(), name == kIndex ? 0640 : 0600), 0);
  ASSERT_OK(save_set(dir / "set", tied_plan(), {.max_shard_nbytes = 16, .replace = true}));
  for (const std::string& name : names_in(dir / "set")) {
    struct stat status = {};
    ASSERT_EQ(::stat((dir / "set" / name).c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0600u) << name;
  }
}

// Each write and each sync in turn; the files have no names that a test could know.
TEST(SaveSet, AFaultAtAnyWriteOrSyncLeavesTheOldSet) {
  constexpr const char* kName = "s\net";  // errors quote it
  const SaveSetOptions options{.max_shard_nbytes = 16, .replace = true};
  for (const IoCall call : {IoCall::write, IoCall::sync}) {
    const TempDir dir;
    ASSERT_OK(save_set(dir / kName, tied_plan(), {.max_shard_nbytes = 8}));
    const Names old = names_in(dir / kName);
    bool failed = true;
    for (std::uint64_t n = 1; failed; ++n) {
      ASSERT_LT(n, 100u);
      FaultIo faults;
      faults.fail(call, test::nth(n), ENOSPC);
      const Result<SaveSetReport> report = save_set(dir / kName, tied_plan(), options);
      failed = !report.has_value();
      if (!failed) break;
      EXPECT_ERROR(report, no_space);
      EXPECT_EQ(names_in(dir / kName), old) << n;
      EXPECT_EQ(dir.names(), Names{kName}) << n;
      EXPECT_EQ(report.error().message.find(".flatbed.tmp"), std::string::npos)
          << report.error().message;
    }
  }
}

// Before anything is written, also by a dry run.
TEST(SaveSet, ASetWhoseIndexNoReaderWouldTakeIsRefused) {
  constexpr std::size_t kNameNbytes = 1'000'000;
  SavePlan plan;
  for (std::size_t i = 0; i < 250; ++i)
    plan.items.push_back(item(std::to_string(1000 + i) + std::string(kNameNbytes - 4, 'n'), 1));
  const TempDir dir;
  for (const bool dry_run : {false, true}) {
    const auto refused =
        save_set(dir / "set", plan, {.max_shard_nbytes = 200, .file = {.dry_run = dry_run}});
    EXPECT_ERROR(refused, limit_exceeded);
    EXPECT_NE(refused.error().message.find("index is too large"), std::string::npos);
  }
  EXPECT_ERROR(compare_set_output(dir / "set", plan, {.max_shard_nbytes = 200}), limit_exceeded);
  EXPECT_TRUE(dir.names().empty());
}

// Strides of 0 make tensors of any size.
TEST(SaveSet, MoreThanSixtyFourBitsOfBytesAreRefused) {
  namespace pickle = test::pickle;
  std::vector<std::string> tensors;
  for (int i = 0; i < 16; ++i) {
    tensors.push_back(pickle::text("w" + std::to_string(i)));
    tensors.push_back(pickle::tensor({.sizes = pickle::counts({1L << (10 + i), 1L << (48 - i)}),
                                      .strides = pickle::counts({0, 0})}));
  }
  const TempDir dir;
  write_file(dir / "a.pth", test::torch_zip({.pickle = pickle::finish(pickle::dict(tensors))}));
  const Result<SavePlan> plan =
      make_plan(Checkpoint::open(dir / "a.pth").value(), {.allow_expansion = true});
  ASSERT_OK(plan);
  const auto refused = save_set(dir / "set", *plan, {.file = {.seal = false, .dry_run = true}});
  EXPECT_ERROR(refused, limit_exceeded);
  EXPECT_NE(refused.error().message.find("than a set can hold"), std::string::npos);
}

TEST(SaveSet, ProgressCountsTheWholeSet) {
  const TempDir dir;
  std::uint64_t done = 0;
  std::uint64_t total = 0;
  SaveSetOptions options{.max_shard_nbytes = 16};
  options.file.progress = [&](const Progress& progress) -> Result<void> {
    EXPECT_LE(done, progress.bytes_done);
    done = progress.bytes_done;
    total = progress.bytes_total;
    return {};
  };
  ASSERT_OK(save_set(dir / "set", tied_plan(), options));
  EXPECT_EQ(done, 32u);
  EXPECT_EQ(total, 32u);
}

TEST(SaveSet, CancelledLeavesNothing) {
  const TempDir dir;
  const std::atomic<bool> cancel = true;
  EXPECT_ERROR(save_set(dir / "set", tied_plan(), {.file = {.cancel = &cancel}}), cancelled);
  EXPECT_EQ(dir.names(), Names{});
}

TEST(CompareSetOutput, WhatWasSavedIsUpToDate) {
  const TempDir dir;
  const SavePlan plan = tied_plan();
  for (const std::uint64_t size : {std::uint64_t{8}, std::uint64_t{16}, kDefaultShardNbytes}) {
    const SaveSetOptions options{.max_shard_nbytes = size, .replace = true};
    EXPECT_NE(found(compare_set_output(dir / "set", plan, options)), "up to date");
    ASSERT_OK(save_set(dir / "set", plan, options));
    EXPECT_EQ(found(compare_set_output(dir / "set", plan, options)), "up to date");
    EXPECT_EQ(found(compare_set_output(dir / "set", plan, options, CompareData::all)),
              "up to date");
  }
}

TEST(CompareSetOutput, NothingAndAnEmptyFolderAreAbsent) {
  const TempDir dir;
  EXPECT_EQ(found(compare_set_output(dir / "set", tied_plan())), "absent");
  fs::create_directory(dir / "set");
  EXPECT_EQ(found(compare_set_output(dir / "set", tied_plan())), "absent");
}

TEST(CompareSetOutput, NamesTheFirstDifference) {
  const SaveSetOptions options{.max_shard_nbytes = 16};
  const std::string second = "model-00002-of-00002.safetensors";
  const TempDir dir;
  ASSERT_OK(save_set(dir / "set", tied_plan(), options));
  const auto compared = [&] {
    return found(compare_set_output(dir / "set", tied_plan(), options));
  };
  const std::string bytes = read_file(dir / "set" / second);
  write_file(dir / "set" / second, bytes.substr(0, bytes.size() - 1) + '!');
  EXPECT_EQ(compared(), "'" + second + "': tensor 'c': bytes [0,16) differ");
  fs::remove(dir / "set" / second);
  EXPECT_EQ(compared(), "there is no '" + second + "'");
  write_file(dir / "set" / second, bytes);
  write_file(dir / "set" / "model.safetensors", "");
  EXPECT_EQ(compared(), "found 'model.safetensors', which is not part of the set");
  fs::remove(dir / "set" / "model.safetensors");
  write_file(dir / "set" / "config.json", "{}");
  EXPECT_EQ(compared(), "up to date");
  std::string index = read_file(dir / "set" / kIndex);
  index[index.find("\"a\"") + 1] = 'x';
  write_file(dir / "set" / kIndex, index);
  EXPECT_EQ(compared(), std::string("'") + kIndex + "': the text differs");
  write_file(dir / "file", "");
  EXPECT_EQ(found(compare_set_output(dir / "file", tied_plan())), "found no folder, expected one");
}

}  // namespace
}  // namespace flatbed
