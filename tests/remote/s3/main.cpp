// The tests over S3; or, for run_s3.py, a program that uploads: `upload URL MIB BYTE`.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "bucket.hpp"

namespace {

int upload(const char* url, std::size_t mib, char byte) {
  const std::string bytes(mib << 20, byte);
  const flatbed::Result<void> done =
      flatbed::test::put_object(flatbed::test::s3_remote(), url, bytes);
  if (!done) std::fprintf(stderr, "%s\n", done.error().message.c_str());
  return done ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 5 && std::strcmp(argv[1], "upload") == 0)
    return upload(argv[2], std::strtoul(argv[3], nullptr, 10), argv[4][0]);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
