// Remote: how few requests suffice, and how long a set of many shards takes.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "flatbed/load.hpp"
#include "flatbed/remote.hpp"
#include "flatbed/save.hpp"
#include "flatbed/save_plan.hpp"
#include "remote/remote_files.hpp"
#include "remote/test_server.hpp"
#include "support/meeting.hpp"
#include "support/sanitizers.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::many_records;
using test::Meeting;
using test::one_tensor;
using test::patient;
using test::pattern;
using test::read_range;
using test::read_tensor;
using test::ServedFile;
using test::ServerAnswer;
using test::ServerRequest;
using test::TestServer;

// An object of 100 GiB, of which only the header is in memory: bytes are those of their offset.
ServedFile large_object(std::size_t tensors) {
  const std::uint64_t nbytes = std::uint64_t{100} << 30;
  const std::uint64_t each = nbytes / tensors;
  std::string header = "{";
  for (std::size_t i = 0; i < tensors; ++i) {
    header += (i == 0 ? "\"" : ",\"") + std::string("model.layers.tensor.") + std::to_string(i) +
              "\":{\"dtype\":\"U8\",\"shape\":[" + std::to_string(each) + "],\"data_offsets\":[" +
              std::to_string(i * each) + "," + std::to_string((i + 1) * each) + "]}";
  }
  header += "}";
  while (header.size() % 8 != 0) header += ' ';
  std::string beginning(8, '\0');
  const std::uint64_t length = header.size();
  std::memcpy(beginning.data(), &length, 8);
  beginning += header;
  ServedFile file;
  file.nbytes = beginning.size() + each * tensors;
  file.read = [beginning](std::uint64_t offset, std::size_t count) {
    std::string out(count, '\0');
    for (std::size_t i = 0; i < count; ++i) {
      out[i] = offset + i < beginning.size() ? beginning[static_cast<std::size_t>(offset + i)]
                                             : static_cast<char>((offset + i) % 251);
    }
    return out;
  };
  return file;
}

TEST(RemoteRequests, OneTensorOfALargeObjectTakesFour) {
  for (const std::size_t tensors : {std::size_t{100'000}, std::size_t{1'000}}) {
    TestServer server;
    const ServedFile file = large_object(tensors);
    server.serve("/large.safetensors", file);
    const auto remote = Remote::make().value();
    const auto opened = remote.open(server.url("/large.safetensors"));
    ASSERT_TRUE(opened) << opened.error().message;
    const auto tensor = opened->tensor("model.layers.tensor.77");
    ASSERT_TRUE(tensor);
    std::string out(1'000'000, '\0');
    const auto read = opened->read(*tensor, 5, std::as_writable_bytes(std::span(out)));
    ASSERT_TRUE(read) << read.error().message;
    EXPECT_EQ(out, file.read(tensor->where.offset + 5, out.size()));
    EXPECT_LE(server.requests(), 4) << tensors;
  }
}

TEST(RemoteRequests, ALoadAsksForLargeRanges) {
  constexpr std::size_t kNbytes = std::size_t{64} << 20;
  TestServer server;
  const std::string bytes = pattern(kNbytes);
  server.serve("/m", one_tensor("w", bytes));
  const auto opened = open_url(server.url("/m"));
  ASSERT_TRUE(opened) << opened.error().message;
  std::string out(kNbytes, '\0');
  LoadPlan plan;
  ASSERT_TRUE(plan.add(*opened, "w", {.data = out.data(), .capacity = out.size()}));
  const auto report = load(plan);
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(out, bytes);
  EXPECT_LE(server.requests(), 2 + 9);  // 8 MiB each; the header, and no sidecar
}

// Sealed or not: both are read in large pieces.
TEST(RemoteRequests, ASaveAsksForLargeRanges) {
  constexpr std::size_t kNbytes = std::size_t{64} << 20;
  for (const bool seal : {false, true}) {
    const test::TempDir dir;
    const std::string bytes = pattern(kNbytes);
    SavePlan made;
    made.items.push_back({"w", Dtype::u8, {kNbytes}, std::as_bytes(std::span(bytes))});
    ASSERT_TRUE(save(dir / "a", made, {.seal = seal, .sync = false}));
    TestServer server;
    server.serve("/a", test::read_file(dir / "a"));
    const auto opened = open_url(server.url("/a"));
    ASSERT_TRUE(opened) << opened.error().message;
    const auto plan = make_plan(*opened);
    ASSERT_TRUE(plan);
    const auto before = server.requests();
    const auto report = save(dir / "b", *plan, {.seal = seal, .sync = false, .threads = 1});
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_TRUE(test::read_file(dir / "b") == test::read_file(dir / "a"));
    EXPECT_LE(server.requests() - before, 9) << seal;  // 8 MiB each
  }
}

TEST(RemoteRequests, AReadOfASealedTensorAsksForLargeRanges) {
  constexpr std::size_t kNbytes = std::size_t{32} << 20;
  const test::TempDir dir;
  const std::string bytes = pattern(kNbytes + 77);
  SavePlan plan;
  plan.items.push_back({"w", Dtype::u8, {bytes.size()}, std::as_bytes(std::span(bytes))});
  ASSERT_TRUE(save(dir / "a", plan, {.sync = false}));
  TestServer server;
  server.serve("/a", test::read_file(dir / "a"));
  const auto opened = open_url(server.url("/a"));
  ASSERT_TRUE(opened) << opened.error().message;
  const TensorInfo tensor = opened->tensor("w").value();
  for (const std::size_t skip : {std::size_t{0}, std::size_t{1}}) {
    const auto before = server.requests();
    std::string out(bytes.size() - skip, '\0');
    const auto read = opened->read(tensor, skip, std::as_writable_bytes(std::span(out)));
    ASSERT_TRUE(read) << read.error().message;
    EXPECT_EQ(out, bytes.substr(skip));
    EXPECT_LE(server.requests() - before, 6);
  }
}

TEST(RemoteRequests, ASetOfManyShardsOpensSoon) {
  TestServer server;
  std::string map;
  for (int i = 0; i < 200; ++i) {
    const std::string name = "model-" + std::to_string(i);
    server.serve("/m/" + name + ".safetensors", one_tensor(name, std::string(1000, 'x')));
    map += (i == 0 ? "\"" : ",\"") + name + "\":\"" + name + ".safetensors\"";
  }
  server.serve("/m/model.safetensors.index.json", "{\"weight_map\":{" + map + "}}");
  for (const std::string_view url : {"/m/model.safetensors.index.json", "/m/"}) {
    const auto meeting = std::make_shared<Meeting>(8);
    server.change = [meeting](const ServerRequest& request, ServerAnswer&) {
      if (request.path.ends_with(".safetensors")) meeting->arrive();
    };
    const auto opened = open_url(server.url(url));
    ASSERT_TRUE(opened) << opened.error().message;
    EXPECT_EQ(opened->tensors().size(), 200u);
    EXPECT_TRUE(meeting->took_place());
  }
}

TEST(RemoteRequests, AFolderNeedsNoList) {
  TestServer server;
  server.serve("/m/pytorch_model.bin", one_tensor("w", "12345678"));  // the content decides
  const auto opened = open_url(server.url("/m/"), patient());
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_EQ(read_tensor(*opened, "w").value(), "12345678");
  const auto none = open_url(server.url("/other/"), patient());
  EXPECT_CODE(none, file_not_found);
  // A server that says 403 of what is not there.
  server.change = [](const ServerRequest&, ServerAnswer& answer) {
    if (answer.status == 404) answer.status = 403;
  };
  const auto again = open_url(server.url("/m/"), patient());
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(read_tensor(*again, "w").value(), "12345678");
  EXPECT_CODE(open_url(server.url("/other/"), patient()), permission_denied);
}

TEST(RemoteRequests, AChildOfForkReadsOverConnectionsOfItsOwn) {
#if FLATBED_THREAD_SANITIZER
  GTEST_SKIP() << "the thread sanitizer forks no process with threads";
#endif
  TestServer server;
  server.serve("/f", pattern(3'000'000));
  const auto expected = pattern(3'000'000).substr(500'000, 2'000'000);
  auto source = Remote::make(patient()).value().open_source(server.url("/f")).value();
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ::alarm(20);
    const auto read = read_range(*source, 500'000, 2'000'000);
    source.reset();
    ::_exit(read && *read == expected ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(read_range(*source, 500'000, 2'000'000).value(), expected);
}

TEST(RemoteRequests, ASmallFileIsReadOnce) {
  TestServer server;
  server.serve("/a.safetensors", one_tensor("w", std::string(50'000, 'x')));
  const auto opened = open_url(server.url("/a.safetensors"), patient());
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_EQ(read_tensor(*opened, "w").value(), std::string(50'000, 'x'));
  EXPECT_EQ(server.requests(), 2);  // the second looks for a sidecar
}

TEST(RemoteRequests, AHubIsHeldToOneCommit) {
  const std::string commit(40, 'c');
  TestServer store;
  TestServer hub;
  store.serve("/blob-index", R"({"weight_map":{"w":"sub/a.safetensors"}})");
  store.serve("/blob-a", one_tensor("w", "12345678"));
  hub.change = [&](const ServerRequest& request, ServerAnswer& answer) {
    const std::string base = "/owner/name/resolve/";
    answer.set("X-Repo-Commit", commit);
    if (request.path == base + "v1%2Fx/model.safetensors.index.json" ||
        request.path == base + "v1%2Fx/unet/model.safetensors.index.json") {
      answer.status = 302;
      answer.set("Location", store.url("/blob-index?sig=1"));
    } else if (request.path == base + commit + "/sub/a.safetensors" ||
               request.path == base + commit + "/unet/sub/a.safetensors") {
      answer.status = 302;
      answer.set("Location", store.url("/blob-a?sig=2"));
    } else {
      answer.status = 404;
    }
  };
  RemoteOptions options = patient();
  options.hub_endpoint = hub.url("");
  const auto opened = open_url("hf://owner/name@v1%2Fx", options);
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_EQ(read_tensor(*opened, "w").value(), "12345678");
  EXPECT_EQ(opened->files()[0].path, "hf://owner/name@v1/x/sub/a.safetensors");
  // A folder in the repository.
  const auto below = open_url("hf://owner/name@v1%2Fx/unet/", options);
  ASSERT_TRUE(below) << below.error().message;
  EXPECT_EQ(read_tensor(*below, "w").value(), "12345678");
  for (const std::string_view url :
       {"hf://", "hf://owner", "hf://owner/", "hf://../name", "hf://owner/name@",
        "hf://owner/name@../x", "hf://owner/name/../x", "hf://owner/name/../", "hf://owner/name//",
        "hf://ow ner/name"}) {
    EXPECT_CODE(open_url(url, options), url_invalid);
  }
}

TEST(RemoteRequests, ReadTheHeadersOfAZipAtOnce) {
  Meeting meeting(8);  // which the server may still be using as the test ends
  TestServer server;
  server.serve("/a.pth", many_records(100, 40'000));
  server.change = [&](const ServerRequest& request, ServerAnswer&) {
    if (request.number >= 4) meeting.arrive();
  };
  const auto opened = open_url(server.url("/a.pth"));
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_EQ(opened->tensors().size(), 100u);
  EXPECT_EQ(read_tensor(*opened, "w99").value(), pattern(40'000));
  EXPECT_GT(server.requests(), 100u);
  EXPECT_TRUE(meeting.took_place());
}

}  // namespace
}  // namespace flatbed
