// The tests over S3; or, for run_s3.py, a program that uploads: `upload URL MIB BYTE`, or a set of
// four shards: `upload-set URL MIB`.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "bucket.hpp"
#include "flatbed/save_set.hpp"

namespace {

int upload(const char* url, std::size_t mib, char byte) {
  const std::string bytes(mib << 20, byte);
  const flatbed::Result<void> done =
      flatbed::test::put_object(flatbed::test::s3_remote(), url, bytes);
  if (!done) std::fprintf(stderr, "%s\n", done.error().message.c_str());
  return done ? 0 : 1;
}

int upload_set(const char* url, std::size_t mib) {
  const std::string bytes(mib << 20, 'x');
  flatbed::SavePlan plan;
  for (const char* name : {"a", "b", "c", "d"})
    plan.items.push_back(
        {name, flatbed::Dtype::u8, {bytes.size()}, std::as_bytes(std::span(bytes))});
  const auto folder = flatbed::test::s3_remote().create_folder(url).value();
  const auto done = flatbed::save_set(*folder, plan, {.max_shard_nbytes = bytes.size()});
  if (!done) std::fprintf(stderr, "%s\n", done.error().message.c_str());
  return done ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 5 && std::strcmp(argv[1], "upload") == 0)
    return upload(argv[2], std::strtoul(argv[3], nullptr, 10), argv[4][0]);
  if (argc == 4 && std::strcmp(argv[1], "upload-set") == 0)
    return upload_set(argv[2], std::strtoul(argv[3], nullptr, 10));
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
