// The cache of remote blocks: what is fetched once, and what becomes of blocks that are damaged.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "flatbed/remote.hpp"
#include "remote/remote_files.hpp"
#include "remote/test_server.hpp"
#include "support/expect_error.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

namespace fs = std::filesystem;
using test::patient;
using test::pattern;
using test::read_range;
using test::TempDir;
using test::TestServer;

constexpr std::size_t kMiB = std::size_t{1} << 20;

RemoteOptions cached(const TempDir& dir) {
  RemoteOptions options = patient();
  options.cache_dir = dir / "cache";
  return options;
}

std::vector<fs::path> blocks_in(const fs::path& folder) {
  std::vector<fs::path> blocks;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file() && entry.path().filename() != "lock")
      blocks.push_back(entry.path());
  }
  std::ranges::sort(blocks);
  return blocks;
}

// All of the file by a Remote of its own, as another process would read it.
Result<std::string> read_whole(const RemoteOptions& options, const std::string& url,
                               RemoteStats* stats = nullptr) {
  FLATBED_ASSIGN(const Remote remote, Remote::make(options));
  FLATBED_ASSIGN(const auto source, remote.open_source(url));
  Result<std::string> bytes = read_range(*source, 0, source->size());
  if (stats != nullptr) *stats = remote.stats();
  return bytes;
}

TEST(RemoteCache, WhatWasReadOnceComesFromTheFolder) {
  const TempDir dir;
  TestServer server;
  const std::string bytes = pattern(5 * kMiB + 12'345);
  server.serve("/file", bytes);
  RemoteStats first, second;
  EXPECT_TRUE(read_whole(cached(dir), server.url("/file"), &first).value() == bytes);
  EXPECT_EQ(first.cached, 0U);
  EXPECT_TRUE(read_whole(cached(dir), server.url("/file"), &second).value() == bytes);
  EXPECT_EQ(second.requests, 1U);  // which asks for the version
  EXPECT_GE(second.cached, 5 * kMiB);
  struct stat state = {};
  ASSERT_EQ(::stat((dir / "cache").c_str(), &state), 0);
  EXPECT_EQ(state.st_mode & 0777U, 0700U);
}

// Two objects may differ by the query alone; a signature differs each time.
TEST(RemoteCache, TheQueryCountsButForASignature) {
  const TempDir dir;
  TestServer server;
  server.serve("/file", pattern(2 * kMiB));
  const auto cached_nbytes = [&](const std::string& query) {
    RemoteStats stats;
    EXPECT_OK(read_whole(cached(dir), server.url("/file" + query), &stats));
    return stats.cached;
  };
  EXPECT_EQ(cached_nbytes("?id=1"), 0U);
  EXPECT_EQ(cached_nbytes("?id=2"), 0U);
  EXPECT_GT(cached_nbytes("?id=1"), 0U);
  EXPECT_EQ(cached_nbytes("?id=1&expires=7"), 0U);  // without a signature it may mean anything
  EXPECT_GT(cached_nbytes("?X-Amz-Date=1&id=1&X-Amz-Signature=ab"), 0U);
  EXPECT_GT(cached_nbytes("?X-Amz-Date=2&id=1&X-Amz-Signature=cd"), 0U);
  EXPECT_GT(cached_nbytes("?id=2&Expires=9&Signature=x&Key-Pair-Id=k"), 0U);
  EXPECT_EQ(cached_nbytes("?id=3&Expires=9&Signature=x&Key-Pair-Id=k"), 0U);
}

TEST(RemoteCache, RangesOfAnySizeAreRight) {
  const TempDir dir;
  TestServer server;
  const std::string bytes = pattern(4 * kMiB + 77);
  server.serve("/file", bytes);
  for (int round = 0; round < 2; ++round) {
    const Remote remote = Remote::make(cached(dir)).value();
    const auto source = remote.open_source(server.url("/file")).value();
    for (const auto& [offset, nbytes] :
         std::vector<std::pair<std::size_t, std::size_t>>{{kMiB - 1, 2},
                                                          {300'000, 200'000},
                                                          {kMiB, kMiB},
                                                          {kMiB + 1, kMiB},
                                                          {4 * kMiB, 77},
                                                          {4 * kMiB + 76, 1},
                                                          {500'000, 3 * kMiB},
                                                          {2 * kMiB, 0}}) {
      EXPECT_EQ(read_range(*source, offset, nbytes).value(), bytes.substr(offset, nbytes));
    }
    // Several parts of memory for one range.
    std::string one(700'000, '\0'), two(10, '\0'), three(900'000, '\0');
    const std::vector<std::span<std::byte>> parts{std::as_writable_bytes(std::span(one)),
                                                  std::as_writable_bytes(std::span(two)),
                                                  std::as_writable_bytes(std::span(three))};
    ASSERT_OK(source->read_parts(1'000'003, parts));
    EXPECT_EQ(one + two + three, bytes.substr(1'000'003, 1'600'010));
  }
}

TEST(RemoteCache, DamagedAndShortBlocksAreFetchedAnew) {
  const TempDir dir;
  TestServer server;
  const std::string bytes = pattern(5 * kMiB);
  server.serve("/file", bytes);
  EXPECT_TRUE(read_whole(cached(dir), server.url("/file")).value() == bytes);
  const std::vector<fs::path> blocks = blocks_in(dir / "cache");
  ASSERT_GE(blocks.size(), 4U);
  fs::resize_file(blocks[0], 1000);
  fs::resize_file(blocks[1], 0);
  std::fstream(blocks[2], std::ios::in | std::ios::out | std::ios::binary)
      .seekp(500'000)
      .put('\xAA');
  fs::rename(blocks[3], blocks[3].parent_path() / "0a");  // another block's name
  EXPECT_TRUE(read_whole(cached(dir), server.url("/file")).value() == bytes);
  RemoteStats stats;
  EXPECT_TRUE(read_whole(cached(dir), server.url("/file"), &stats).value() == bytes);
  EXPECT_EQ(stats.requests, 1U);
}

TEST(RemoteCache, AnotherVersionHasBlocksOfItsOwn) {
  const TempDir dir;
  TestServer server;
  const std::string one = pattern(3 * kMiB, 1), two = pattern(3 * kMiB, 2);
  server.serve("/file", one, "\"one\"");
  EXPECT_TRUE(read_whole(cached(dir), server.url("/file")).value() == one);
  server.serve("/file", two, "\"two\"");
  EXPECT_TRUE(read_whole(cached(dir), server.url("/file")).value() == two);
  server.serve("/other", two, "\"one\"");
  EXPECT_EQ(read_whole(cached(dir), server.url("/other")).value(), two);
}

TEST(RemoteCache, NothingIsKeptOfAFileWithoutAStrongETag) {
  const TempDir dir;
  TestServer server;
  server.serve("/file", pattern(3 * kMiB), "W/\"weak\"");
  EXPECT_OK(read_whole(cached(dir), server.url("/file")));
  EXPECT_TRUE(blocks_in(dir / "cache").empty());
}

TEST(RemoteCache, WhatWasNotReadForLongestGoes) {
  const TempDir dir;
  TestServer server;
  RemoteOptions options = cached(dir);
  options.cache_nbytes = 8 * kMiB;
  for (unsigned i = 0; i < 6; ++i) {
    const std::string path = "/file" + std::to_string(i), bytes = pattern(3 * kMiB, i + 1);
    server.serve(path, bytes);
    EXPECT_EQ(read_whole(options, server.url(path)).value(), bytes);
  }
  std::uint64_t nbytes = 0;
  for (const fs::path& block : blocks_in(dir / "cache")) nbytes += fs::file_size(block);
  EXPECT_LE(nbytes, 9 * kMiB);
  RemoteStats stats;
  EXPECT_OK(read_whole(options, server.url("/file5"), &stats));
  EXPECT_GT(stats.cached, 2 * kMiB);
  EXPECT_OK(read_whole(options, server.url("/file0"), &stats));
  EXPECT_EQ(stats.cached, 0U);
}

TEST(RemoteCache, OtherFilesInTheFolderStay) {
  const TempDir dir;
  TestServer server;
  RemoteOptions options = cached(dir);
  options.cache_nbytes = 2 * kMiB;
  const fs::path other = dir / "cache" / "letters" / "2019";
  fs::create_directories(other);
  for (const char* name : {"12", "new-letter"}) {
    std::ofstream(other / name) << pattern(3 * kMiB);
    fs::last_write_time(other / name, fs::file_time_type::clock::now() - std::chrono::hours(99));
  }
  server.serve("/file", pattern(6 * kMiB));
  EXPECT_OK(read_whole(options, server.url("/file")));
  EXPECT_TRUE(fs::exists(other / "12"));
  EXPECT_TRUE(fs::exists(other / "new-letter"));
}

TEST(RemoteCache, AFolderThatCannotBeWrittenStopsNoRead) {
  const TempDir dir;
  TestServer server;
  const std::string bytes = pattern(3 * kMiB);
  server.serve("/file", bytes);
  const Remote remote = Remote::make(cached(dir)).value();
  fs::remove_all(dir / "cache");
  test::write_file(dir / "cache", "no folder");  // every write fails, also those of root
  const auto source = remote.open_source(server.url("/file")).value();
  EXPECT_EQ(read_range(*source, 0, bytes.size()).value(), bytes);
  // What can be known at once is an error.
  EXPECT_FALSE(Remote::make(cached(dir)));
}

TEST(RemoteCache, NeitherUrlsNorCredentialsAreInTheFolder) {
  const TempDir dir;
  TestServer server;
  server.serve("/folder/private-name", std::string(3 * kMiB, 'x'));
  RemoteOptions options = cached(dir);
  options.credentials = [](const CredentialsQuery&) -> Result<RemoteCredentials> {
    RemoteCredentials credentials;
    credentials.bearer_token = "topsecret";
    return credentials;
  };
  ASSERT_OK(read_whole(options, server.url("/folder/private-name")));
  const std::vector<fs::path> blocks = blocks_in(dir / "cache");
  ASSERT_FALSE(blocks.empty());
  for (const fs::path& block : blocks) {
    const std::string text = block.native() + test::read_file(block);
    for (const char* word : {"topsecret", "private-name", "127.0.0.1"})
      EXPECT_EQ(text.find(word), std::string::npos) << word;
  }
}

TEST(RemoteCache, SeveralReadersShareIt) {
  const TempDir dir;
  TestServer server;
  const std::string bytes = pattern(6 * kMiB);
  server.serve("/file", bytes);
  RemoteOptions options = cached(dir);
  options.cache_nbytes = 4 * kMiB;  // so that blocks are removed while others read them
  std::vector<std::thread> readers;
  for (int i = 0; i < 6; ++i) {
    readers.emplace_back([&] {
      for (int round = 0; round < 3; ++round)
        EXPECT_TRUE(read_whole(options, server.url("/file")).value() == bytes);
    });
  }
  for (std::thread& reader : readers) reader.join();
}

// The block is fetched damaged once, and kept so: its digest is right, the tensor's is not.
TEST(RemoteCache, AChunkThatDoesNotMatchIsNotKept) {
  const TempDir dir;
  TestServer server;
  const std::string bytes = pattern(3 * kMiB);
  server.serve("/file", bytes);
  server.change = [](const test::ServerRequest& request, test::ServerAnswer& answer) {
    if (request.number == 1) answer.body[0] = static_cast<char>(~answer.body[0]);
  };
  const auto source = Remote::make(cached(dir)).value().open_source(server.url("/file")).value();
  const std::size_t begin = 2 * kMiB;
  EXPECT_NE(read_range(*source, begin, kMiB).value(), bytes.substr(begin, kMiB));
  std::string again(kMiB, '\0');
  ASSERT_OK(source->reread_at(begin, std::as_writable_bytes(std::span(again))));
  EXPECT_TRUE(again == bytes.substr(begin, kMiB));
  EXPECT_TRUE(read_whole(cached(dir), server.url("/file")).value() == bytes);
}

}  // namespace
}  // namespace flatbed
