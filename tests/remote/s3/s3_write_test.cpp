// save() and save_set() to s3://: objects that are whole or not there, and nothing left of errors.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <string>
#include <vector>

#include "bucket.hpp"
#include "flatbed/checkpoint.hpp"
#include "flatbed/save.hpp"
#include "flatbed/save_compare.hpp"
#include "flatbed/save_set.hpp"
#include "flatbed/save_torch.hpp"
#include "flatbed/verify.hpp"

namespace flatbed {
namespace {

using test::get_object;
using test::put_object;
using test::s3_remote;

std::string pattern(std::size_t nbytes) {
  std::string bytes(nbytes, '\0');
  for (std::size_t i = 0; i + 8 <= nbytes; i += 8) std::memcpy(bytes.data() + i, &i, sizeof i);
  return bytes;
}

SavePlan plan_of(const std::string& bytes, std::vector<std::string> names) {
  SavePlan plan;
  for (std::string& name : names)
    plan.items.push_back(
        {std::move(name), Dtype::u8, {bytes.size()}, std::as_bytes(std::span(bytes))});
  return plan;
}

Result<SaveReport> save_to(const Remote& remote, const std::string& url, const SavePlan& plan,
                           const UploadOptions& upload = {}, const SaveOptions& options = {}) {
  FLATBED_ASSIGN(const auto sink, remote.create(url, upload));
  return save(*sink, plan, options);
}

// The names below a prefix, sorted.
std::vector<std::string> names_in(const Remote& remote, const std::string& url) {
  std::vector<std::string> names = remote.open_folder(url).value()->names().value();
  std::ranges::sort(names);
  return names;
}

TEST(S3Write, AFileOfSeveralPartsVerifies) {
  FLATBED_NEED_S3();
  const Remote remote = s3_remote();
  const std::string bytes = pattern(15'000'000);
  const SavePlan plan = plan_of(bytes, {"a", "b", "c"});
  const auto report =
      save_to(remote, "s3://bucket/parts.safetensors", plan, {.replace = true}, {.threads = 4});
  ASSERT_OK(report);
  EXPECT_GT(report->nbytes, 45'000'000U);
  const Checkpoint opened = remote.open("s3://bucket/parts.safetensors").value();
  const auto verified = verify(opened);
  ASSERT_OK(verified);
  EXPECT_TRUE(verified->damaged.empty());
  EXPECT_GE(verified->bytes_checked, 27'000'000U);
  const auto source = remote.open_source("s3://bucket/parts.safetensors").value();
  EXPECT_EQ(compare_output(source, plan).value().kind, OutputKind::up_to_date);
}

TEST(S3Write, APytorchFileOfSeveralPartsIsRead) {
  FLATBED_NEED_S3();
  const Remote remote = s3_remote();
  const std::string bytes = pattern(30'000'000);
  const SavePlan plan = plan_of(bytes, {"a", "b"});
  const auto sink = remote.create("s3://bucket/parts.pth", {.replace = true}).value();
  ASSERT_OK(save_torch(*sink, plan, {.file = {.threads = 4}}));
  const auto source = remote.open_source("s3://bucket/parts.pth").value();
  EXPECT_EQ(compare_torch_output(source, plan, {}, CompareData::all).value().kind,
            OutputKind::up_to_date);
  const Checkpoint opened = remote.open("s3://bucket/parts.pth").value();
  const auto verified = verify(opened);
  ASSERT_OK(verified);
  EXPECT_EQ(verified->crc.mismatched, 0U);
  EXPECT_GE(verified->crc.checked, 2U);
}

TEST(S3Write, WhatIsThereIsReplacedOnlyIfAsked) {
  FLATBED_NEED_S3();
  const Remote remote = s3_remote();
  const std::string small = pattern(100), large = pattern(20'000'000);
  ASSERT_OK(put_object(remote, "s3://bucket/taken", "mine"));
  EXPECT_ERROR(save_to(remote, "s3://bucket/taken", plan_of(small, {"a"})), file_exists);
  EXPECT_ERROR(save_to(remote, "s3://bucket/taken", plan_of(large, {"a"})), file_exists);
  EXPECT_EQ(get_object(remote, "s3://bucket/taken").value(), "mine");
  EXPECT_OK(save_to(remote, "s3://bucket/taken", plan_of(large, {"a"}), {.replace = true}));
}

// An object that appears after begin() is found by the server.
TEST(S3Write, WhatAppearsMeanwhileIsNotReplaced) {
  FLATBED_NEED_S3();
  const Remote remote = s3_remote();
  for (const std::size_t nbytes : {std::size_t{100}, std::size_t{20'000'000}}) {
    const std::string url = "s3://bucket/meanwhile" + std::to_string(nbytes);
    const std::string bytes = pattern(nbytes);
    const auto sink = remote.create(url).value();
    ASSERT_OK(sink->begin({bytes.size(), 0}));
    ASSERT_OK(sink->write_at(0, std::as_bytes(std::span(bytes))));
    ASSERT_OK(put_object(remote, url, "another's"));
    EXPECT_ERROR(sink->commit(), file_exists);
    EXPECT_EQ(get_object(remote, url).value(), "another's");
  }
}

TEST(S3Write, NothingIsLeftOfAnUploadThatIsCancelled) {
  FLATBED_NEED_S3();
  const std::string bytes = pattern(40'000'000);
  std::atomic<bool> cancel = false;
  RemoteOptions remote_options = test::s3_options();
  remote_options.cancel = &cancel;
  const Remote remote = Remote::make(remote_options).value();
  SaveOptions options;
  options.cancel = &cancel;
  options.progress = [&](const Progress& progress) -> Result<void> {
    if (progress.bytes_done > 25'000'000) cancel = true;
    return {};
  };
  EXPECT_ERROR(save_to(remote, "s3://bucket/cancelled", plan_of(bytes, {"a"}), {}, options),
               cancelled);
  const Remote other = s3_remote();
  EXPECT_ERROR(get_object(other, "s3://bucket/cancelled"), file_not_found);
}

TEST(S3Write, ASetIsInvisibleUntilItIsWhole) {
  FLATBED_NEED_S3();
  const Remote remote = s3_remote();
  const std::string bytes = pattern(9'000'000);
  const SavePlan plan = plan_of(bytes, {"a", "b", "c"});
  SaveSetOptions options{.max_shard_nbytes = 9'000'000};
  std::vector<std::string> during;
  options.file.progress = [&](const Progress& progress) -> Result<void> {
    if (progress.bytes_done > 26'000'000) during = names_in(remote, "s3://bucket/set/");
    return {};
  };
  const auto folder = remote.create_folder("s3://bucket/set/").value();
  ASSERT_OK(save_set(*folder, plan, options));
  EXPECT_TRUE(during.empty());
  EXPECT_EQ(names_in(remote, "s3://bucket/set/"),
            (std::vector<std::string>{
                "model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors",
                "model-00003-of-00003.safetensors", "model.safetensors.index.json"}));
  const auto compare = [&](const SaveSetOptions& with) {
    const auto source = remote.open_folder("s3://bucket/set/").value();
    return compare_set_output(*source, plan, with).value();
  };
  EXPECT_EQ(compare(options).kind, OutputKind::up_to_date);
  EXPECT_EQ(compare({.max_shard_nbytes = 1'000'000'000}).kind, OutputKind::different);
  const auto nothing = remote.open_folder("s3://bucket/no-set/").value();
  EXPECT_EQ(compare_set_output(*nothing, plan, options).value().kind, OutputKind::absent);
  const Checkpoint opened = remote.open("s3://bucket/set/").value();
  EXPECT_EQ(opened.tensors().size(), 3U);
  const auto verified = verify(opened);
  ASSERT_OK(verified);
  EXPECT_TRUE(verified->damaged.empty());
  EXPECT_GE(verified->bytes_checked, 27'000'000U);
}

TEST(S3Write, ASetReplacesAnotherAndNothingElse) {
  FLATBED_NEED_S3();
  const Remote remote = s3_remote();
  const std::string bytes = pattern(1'000'000);
  const std::string url = "s3://bucket/replaced/";
  ASSERT_OK(put_object(remote, url + "config.json", "{}"));
  {
    const auto folder = remote.create_folder(url).value();
    EXPECT_ERROR(save_set(*folder, plan_of(bytes, {"a"})), file_exists);
  }
  {
    const auto folder = remote.create_folder(url, {.replace = true}).value();
    ASSERT_OK(save_set(*folder, plan_of(bytes, {"a", "b"}), {.max_shard_nbytes = 1'000'000}));
  }
  EXPECT_EQ(names_in(remote, url).size(), 4U);
  {
    const auto folder = remote.create_folder(url, {.replace = true}).value();
    ASSERT_OK(save_set(*folder, plan_of(bytes, {"a", "b"})));
  }
  EXPECT_EQ(names_in(remote, url), (std::vector<std::string>{"config.json", "model.safetensors"}));
}

TEST(S3Write, ADryRunWritesNothing) {
  FLATBED_NEED_S3();
  const Remote remote = s3_remote();
  const std::string bytes = pattern(20'000'000);
  ASSERT_OK(save_to(remote, "s3://bucket/dry", plan_of(bytes, {"a"}), {}, {.dry_run = true}));
  EXPECT_ERROR(get_object(remote, "s3://bucket/dry"), file_not_found);
}

TEST(S3Write, AnEmptyFileIsAnObject) {
  FLATBED_NEED_S3();
  const Remote remote = s3_remote();
  ASSERT_OK(put_object(remote, "s3://bucket/empty", ""));
  EXPECT_EQ(get_object(remote, "s3://bucket/empty").value(), "");
}

}  // namespace
}  // namespace flatbed
