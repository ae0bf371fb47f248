// s3:// on a server that checks signatures: objects, ranges, lists, keys that are refused.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "bucket.hpp"
#include "flatbed/checkpoint.hpp"
#include "flatbed/save.hpp"

namespace flatbed {
namespace {

using test::get_object;
using test::put_object;
using test::s3_remote;

std::string message_of(const Result<std::string>& result) {
  return result ? "no error" : result.error().message;
}

TEST(S3Read, KeysOfAnyBytesComeBackAsTheyAre) {
  FLATBED_NEED_S3();
  const Remote remote = s3_remote();
  const std::vector<std::string> names{"plain",  "a b",       "a+b",       "a%20b",
                                       "100%",   "q?x=1&y=2", "#fragment", "é.bin",
                                       "(x)!'*", "~_-.",      "a=b,c;d",   "[1]{2}"};
  for (const std::string& name : names)
    ASSERT_OK(put_object(remote, "s3://bucket/odd/" + name, name));
  for (const std::string& name : names) {
    const Result<std::string> text = get_object(remote, "s3://bucket/odd/" + name);
    ASSERT_OK(text) << name;
    EXPECT_EQ(*text, name);
  }
  std::vector<std::string> found = remote.open_folder("s3://bucket/odd/").value()->names().value();
  std::vector<std::string> expected = names;
  std::ranges::sort(found);
  std::ranges::sort(expected);
  EXPECT_EQ(found, expected);
}

TEST(S3Read, ListsMoreThanOnePage) {
  FLATBED_NEED_S3();
  const Remote remote = s3_remote();
  for (int i = 0; i < 1005; ++i)
    ASSERT_OK(put_object(remote, "s3://bucket/many/" + std::to_string(i), "x"));
  ASSERT_OK(put_object(remote, "s3://bucket/many/below/other", "x"));
  const auto names = remote.open_folder("s3://bucket/many").value()->names();
  ASSERT_OK(names);
  EXPECT_EQ(names->size(), 1005U);
}

TEST(S3Read, OpensACheckpointByItsKeyOrItsPrefix) {
  FLATBED_NEED_S3();
  const Remote remote = s3_remote();
  const std::string bytes(3'000'000, 'w');
  SavePlan plan;
  plan.items.push_back({"w", Dtype::u8, {bytes.size()}, std::as_bytes(std::span(bytes))});
  const auto sink = remote.create("s3://bucket/one/model.safetensors", {.replace = true}).value();
  ASSERT_OK(save(*sink, plan));
  for (const char* url : {"s3://bucket/one/model.safetensors", "s3://bucket/one/"}) {
    const Result<Checkpoint> opened = remote.open(url);
    ASSERT_OK(opened);
    std::string read(bytes.size(), '\0');
    ASSERT_OK(opened->read(opened->tensors()[0], 0, std::as_writable_bytes(std::span(read))));
    EXPECT_EQ(read, bytes);
    EXPECT_EQ(opened->files()[0].path, "s3://bucket/one/model.safetensors");
  }
}

TEST(S3Read, AnObjectThatIsReplacedIsFileChanged) {
  FLATBED_NEED_S3();
  const Remote remote = s3_remote();
  const std::string first(3'000'000, '1'), second(3'000'000, '2');
  ASSERT_OK(put_object(remote, "s3://bucket/changing", first));
  const auto source = remote.open_source("s3://bucket/changing").value();
  std::string read(1'000'000, '\0');
  ASSERT_OK(source->read_at(1'000'000, std::as_writable_bytes(std::span(read))));
  ASSERT_OK(put_object(remote, "s3://bucket/changing", second));
  EXPECT_ERROR(source->read_at(2'000'000, std::as_writable_bytes(std::span(read))), file_changed);
}

TEST(S3Read, NamesWhatIsMissing) {
  FLATBED_NEED_S3();
  const auto missing = get_object(s3_remote(), "s3://bucket/missing");
  EXPECT_ERROR(missing, file_not_found);
  EXPECT_NE(message_of(missing).find("NoSuchKey"), std::string::npos) << message_of(missing);
  const auto bucket = get_object(s3_remote(), "s3://no-such-bucket/missing");
  EXPECT_ERROR(bucket, file_not_found);
}

TEST(S3Read, NamesKeysThatAreRefusedAndNeverTheSecret) {
  FLATBED_NEED_S3();
  const auto wrong = get_object(s3_remote({"AKIDFULL", "topsecret"}), "s3://bucket/odd/plain");
  EXPECT_ERROR(wrong, permission_denied);
  EXPECT_NE(message_of(wrong).find("SignatureDoesNotMatch"), std::string::npos);
  EXPECT_EQ(message_of(wrong).find("topsecret"), std::string::npos);
  EXPECT_EQ(message_of(wrong).find("AKIDFULL"), std::string::npos);
  EXPECT_ERROR(get_object(s3_remote({"AKIDNONE", "x"}), "s3://bucket/odd/plain"),
               permission_denied);
  EXPECT_ERROR(get_object(s3_remote({"", ""}), "s3://bucket/odd/plain"), permission_denied);
  // A reader may not write.
  const Remote reader = s3_remote({"AKIDREAD", "secretread"});
  EXPECT_ERROR(put_object(reader, "s3://bucket/new", "x"), permission_denied);
  EXPECT_OK(get_object(reader, "s3://bucket/odd/plain"));
}

TEST(S3Read, SendsASessionTokenThatIsSigned) {
  FLATBED_NEED_S3();
  // The server knows no such session, and says so before it looks at the signature.
  const auto refused =
      get_object(s3_remote({"AKIDFULL", "secretfull", "sessiontoken"}), "s3://bucket/odd/plain");
  EXPECT_ERROR(refused, permission_denied);
  EXPECT_EQ(message_of(refused).find("sessiontoken"), std::string::npos);
}

TEST(S3Read, AsksForOtherKeysOnceWhenTheyAreRefused) {
  FLATBED_NEED_S3();
  RemoteOptions options = test::s3_options();
  options.credentials = [](const CredentialsQuery& query) -> Result<RemoteCredentials> {
    RemoteCredentials credentials;
    credentials.access_key_id = "AKIDFULL";
    credentials.secret_access_key = query.refused ? "secretfull" : "old";
    return credentials;
  };
  EXPECT_OK(get_object(Remote::make(options).value(), "s3://bucket/odd/plain"));
}

}  // namespace
}  // namespace flatbed
