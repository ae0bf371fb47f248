// Remote: a read tells of the bytes that have arrived, and these stay, whatever comes afterwards.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "flatbed/load.hpp"
#include "flatbed/remote.hpp"
#include "flatbed/save.hpp"
#include "remote/remote_files.hpp"
#include "remote/test_server.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::is_first;
using test::patient;
using test::pattern;
using test::ServerAnswer;
using test::ServerRequest;
using test::TestServer;

constexpr std::uint64_t kOffset = 500'000;
constexpr std::size_t kNbytes = 4'000'000;

// One range for all of a read.
RemoteOptions one_range() {
  RemoteOptions options = patient();
  options.range_nbytes = 8 << 20;
  return options;
}

// A read into two parts, which notes what it is told and compares what it was told of later.
class Reading {
 public:
  Result<void> run(const ByteSource& source) {
    const std::span<std::byte> bytes = std::as_writable_bytes(std::span(out_));
    const std::vector<std::span<std::byte>> parts{bytes.first(1'000'001), bytes.subspan(1'000'001)};
    return source.read_with_progress(kOffset, parts,
                                     [this](std::uint64_t nbytes) { return take(nbytes); });
  }

  // Is asked after each report.
  std::function<Result<void>()> then = [] { return Result<void>(); };

  [[nodiscard]] const std::string& bytes() const { return out_; }
  [[nodiscard]] std::uint64_t reported() const { return seen_.size(); }
  [[nodiscard]] int reports() const { return reports_; }
  // Whether all that was reported still is as it was then.
  [[nodiscard]] bool stayed() const { return std::string_view(out_).starts_with(seen_); }

 private:
  Result<void> take(std::uint64_t nbytes) {
    EXPECT_GT(nbytes, seen_.size());
    EXPECT_LE(nbytes, out_.size());
    EXPECT_TRUE(stayed());
    seen_ += out_.substr(seen_.size(), nbytes - seen_.size());
    ++reports_;
    return then();
  }

  std::string out_ = std::string(kNbytes, '?');
  std::string seen_;
  int reports_ = 0;
};

class RemoteProgress : public ::testing::Test {
 protected:
  RemoteProgress() { server.serve("/f", file()); }
  static std::string file() { return pattern(6'000'000); }
  static std::string expected() { return file().substr(kOffset, kNbytes); }
  Result<std::shared_ptr<const ByteSource>> open(RemoteOptions options) {
    FLATBED_ASSIGN(const Remote remote, Remote::make(std::move(options)));
    FLATBED_ASSIGN(std::shared_ptr<const ByteSource> source, remote.open_source(server.url("/f")));
    return source;
  }
  Result<void> read(RemoteOptions options) {
    FLATBED_ASSIGN(const auto source, open(std::move(options)));
    return reading.run(*source);
  }

  Reading reading;
  std::atomic<int> left = 0;
  std::atomic<std::uint64_t> reported = 0;
  TestServer server;
};

TEST_F(RemoteProgress, TellsOfAllBytes) {
  for (const std::size_t range : {std::size_t{512} << 10, std::size_t{8} << 20}) {
    RemoteOptions options = patient();
    options.range_nbytes = range;
    reading = {};
    const Result<void> done = read(options);
    ASSERT_TRUE(done) << done.error().message;
    EXPECT_EQ(reading.reported(), kNbytes);
    EXPECT_TRUE(reading.bytes() == expected());
    EXPECT_TRUE(reading.stayed());
    EXPECT_LE(reading.reports(), 15 + 8);  // at most one for 256 KiB, and one for each range
  }
}

// The rest is sent only once the reader has been told of what came first.
TEST_F(RemoteProgress, TellsOfBytesBeforeTheRestIsSent) {
  reading.then = [this] {
    reported = reading.reported();
    return Result<void>();
  };
  server.change = [this](const ServerRequest& request, ServerAnswer& answer) {
    if (is_first(request)) return;
    if (left++ == 0) {
      answer.cut_after = 1'000'000;
      return;
    }
    for (int i = 0; i < 2000 && reported < 3 * (256 << 10); ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    if (reported < 3 * (256 << 10)) answer.status = 404;
  };
  const Result<void> done = read(one_range());
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_TRUE(reading.bytes() == expected());
}

TEST_F(RemoteProgress, KeepsWhatItToldOfOverCutConnections) {
  left = 3;
  server.change = [this](const ServerRequest& request, ServerAnswer& answer) {
    if (is_first(request) || left-- <= 0) return;
    answer.cut_after = 700'000;
  };
  const Result<void> done = read(one_range());
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(left, -1);
  EXPECT_EQ(reading.reported(), kNbytes);
  EXPECT_TRUE(reading.stayed());
  EXPECT_TRUE(reading.bytes() == expected());
}

TEST_F(RemoteProgress, TellsOfNothingFromAnotherVersionOrRange) {
  using Change = std::function<void(ServerAnswer&)>;
  for (const auto& [change, code] : std::vector<std::pair<Change, ErrorCode>>{
           {[](ServerAnswer& answer) { answer.set("ETag", "\"two\""); }, ErrorCode::file_changed},
           {[](ServerAnswer& answer) {
              answer.set("Content-Range", "bytes 500001-4500000/6000000");
            },
            ErrorCode::http_protocol},
           {[](ServerAnswer& answer) { answer.status = 200; }, ErrorCode::http_protocol}}) {
    for (const int whole_answers : {0, 1}) {
      left = whole_answers;
      reading = {};
      server.change = [this, change = change](const ServerRequest& request, ServerAnswer& answer) {
        if (is_first(request)) return;
        if (left-- > 0) {
          answer.cut_after = 1'000'000;
        } else {
          change(answer);
        }
      };
      const Result<void> done = read(one_range());
      ASSERT_FALSE(done);
      EXPECT_EQ(done.error().code, code) << done.error().message;
      EXPECT_LE(reading.reported(), whole_answers == 0 ? 0 : 1'000'000);
      EXPECT_TRUE(reading.stayed());
      EXPECT_TRUE(expected().starts_with(reading.bytes().substr(0, reading.reported())));
    }
  }
}

// The place that a redirect led to answers once more, and has expired then. The other one has the
// same version, but would send other bytes for what was told of.
TEST_F(RemoteProgress, KeepsWhatItToldOfWhenARedirectExpires) {
  std::string other = file();
  std::fill_n(other.begin(), kOffset + 100'000, '!');
  TestServer second;
  second.serve("/a", file());
  second.serve("/b", other);
  std::atomic<int> asked = 0;
  server.change = [&](const ServerRequest&, ServerAnswer& answer) {
    answer.status = 302;
    answer.set("Location", second.url(asked++ == 0 ? "/a" : "/b"));
  };
  const auto source = open(one_range());
  ASSERT_TRUE(source) << source.error().message;
  left = 1;
  second.change = [this](const ServerRequest& request, ServerAnswer& answer) {
    if (request.path != "/a") return;
    if (left-- > 0) {
      answer.cut_after = 1'000'000;
    } else {
      answer.status = 403;
    }
  };
  const Result<void> done = reading.run(**source);
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(asked, 2);
  EXPECT_EQ(reading.reported(), kNbytes);
  EXPECT_TRUE(reading.stayed());
  EXPECT_TRUE(reading.bytes() == expected());
}

TEST_F(RemoteProgress, EndsWithTheErrorOfItsReader) {
  RemoteOptions options = patient();  // eight ranges, most of which do not answer
  options.first_byte_timeout = options.stall_timeout = std::chrono::hours(10);
  server.change = [](const ServerRequest& request, ServerAnswer& answer) {
    if (is_first(request)) return;
    if (request.headers.at("range").starts_with("bytes=500000-")) return;
    answer.delay = std::chrono::hours(1);
  };
  reading.then = [] { return Result<void>(Error{ErrorCode::permission_denied, "enough"}); };
  const Result<void> done = read(options);
  EXPECT_CODE(done, permission_denied);
  EXPECT_EQ(done.error().message, "enough");
  EXPECT_EQ(reading.reports(), 1);
  EXPECT_LE(reading.reported(), 1'000'000);
}

TEST_F(RemoteProgress, CountsBytesThatWereKept) {
  RemoteOptions options = one_range();
  options.head_nbytes = 1 << 20;
  const Result<void> done = read(options);
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_TRUE(reading.bytes() == expected());
  EXPECT_EQ(reading.reported(), kNbytes);
}

TEST_F(RemoteProgress, OfACachedFileComesAtTheEnd) {
  const test::TempDir dir;
  RemoteOptions options = one_range();
  options.cache_dir = dir / "cache";
  for (int i = 0; i < 2; ++i) {
    reading = {};
    const Result<void> done = read(options);
    ASSERT_TRUE(done) << done.error().message;
    EXPECT_TRUE(reading.bytes() == expected());
    EXPECT_EQ(reading.reported(), kNbytes);
    EXPECT_EQ(reading.reports(), 1);
  }
}

TEST_F(RemoteProgress, OfAServerWithoutRangesComesAtTheEnd) {
  server.ranges = false;
  const Result<void> done = read(one_range());
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_TRUE(reading.bytes() == expected());
  EXPECT_EQ(reading.reported(), kNbytes);
}

// A load whose ranges are cut and whose chunks arrive damaged, once each.
TEST(RemoteLoad, IsRightOverCutConnectionsAndDamage) {
  const test::TempDir dir;
  const std::string data = pattern(20'000'000);
  SavePlan made;
  made.items.push_back({"w", Dtype::u8, {data.size()}, std::as_bytes(std::span(data))});
  ASSERT_TRUE(save(dir / "a", made, {.sync = false}));
  std::atomic<int> large = 0;
  TestServer server;
  server.serve("/a", test::read_file(dir / "a"));
  server.change = [&](const ServerRequest& request, ServerAnswer& answer) {
    if (is_first(request) || answer.body.size() < 2'000'000) return;
    const int number = large++;
    if (number % 2 == 0) answer.cut_after = answer.body.size() / 2;
    if (number < 2) answer.body[700'000] = static_cast<char>(answer.body[700'000] ^ 1);
  };
  const auto opened = Remote::make(one_range()).value().open(server.url("/a"));
  ASSERT_TRUE(opened) << opened.error().message;
  std::string out(data.size(), '\0');
  LoadPlan plan;
  ASSERT_TRUE(plan.add(*opened, "w", {.data = out.data(), .capacity = out.size()}));
  const auto report = load(plan, {.threads = 1});
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_TRUE(out == data);
  EXPECT_EQ(report->chunks_reread, 2u);
  EXPECT_EQ(report->bytes_verified, data.size());
}

}  // namespace
}  // namespace flatbed
