// Remote: checkpoints from a server that behaves.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <string>

#include "flatbed/remote.hpp"
#include "remote/remote_files.hpp"
#include "remote/test_server.hpp"

namespace flatbed {
namespace {

using test::one_tensor;
using test::read_tensor;
using test::TestServer;

std::string file_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST(RemoteOpen, ReadsAFileWithTwoRequests) {
  TestServer server;
  const std::string data(1 << 20, 'x');
  server.serve("/a.safetensors", one_tensor("w", data));
  const auto remote = Remote::make().value();
  const auto opened = remote.open(server.url("/a.safetensors"));
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_EQ(server.requests(), 2);  // its beginning, and whether there is a sidecar
  EXPECT_EQ(read_tensor(*opened, "w").value(), data);
  EXPECT_EQ(server.requests(), 3);
  EXPECT_EQ(remote.stats().requests, 3);
}

TEST(RemoteOpen, ReadsAPthFile) {
  TestServer server;
  server.serve("/m.pth", file_text(FLATBED_FIXTURES_DIR "/torch2/state_dict.pth"));
  const auto opened = open_url(server.url("/m.pth"));
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_GT(opened->tensors().size(), 0);
}

}  // namespace
}  // namespace flatbed
