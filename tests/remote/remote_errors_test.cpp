// Remote: servers that refuse, fail, lie or do not know ranges. Each answer has a named error or
// the right bytes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "flatbed/remote.hpp"
#include "remote/remote_files.hpp"
#include "remote/test_server.hpp"

namespace flatbed {
namespace {

using test::is_first;
using test::patient;
using test::pattern;
using test::read_range;
using test::ServerAnswer;
using test::ServerRequest;
using test::TestServer;
using ::testing::HasSubstr;
using ::testing::Not;

// A server with one file of 3 MB, and what its answers are changed by.
class RemoteErrors : public ::testing::Test {
 protected:
  Result<std::string> open_and_read(RemoteOptions options = patient()) {
    server.serve("/f", pattern(3'000'000));
    const auto remote = Remote::make(std::move(options));
    if (!remote) return remote.error();
    const auto source = remote->open_source(server.url("/f"));
    if (!source) return source.error();
    return read_range(**source, 500'000, 2'000'000);
  }
  static std::string expected() { return pattern(3'000'000).substr(500'000, 2'000'000); }

  // What changes of answers refer to, which the server may still be using as a test ends.
  std::atomic<int> left = 0;
  std::atomic<int> status = 0;
  std::atomic<std::uint64_t> sent = 0;
  TestServer server;
};

TEST_F(RemoteErrors, ReadsWhatTheServerHas) {
  const auto read = open_and_read();
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(*read, expected());
}

TEST_F(RemoteErrors, NamesStatuses) {
  status = 403;
  server.change = [&](const ServerRequest&, ServerAnswer& answer) { answer.status = status; };
  const auto refused = open_and_read();
  EXPECT_CODE(refused, permission_denied);
  EXPECT_THAT(refused.error().message, HasSubstr("status 403; no credentials were given"));
  status = 401;
  EXPECT_CODE(open_and_read(), permission_denied);
  status = 404;
  const auto missing = open_and_read();
  EXPECT_CODE(missing, file_not_found);
  EXPECT_THAT(missing.error().message, HasSubstr("/f': GET of bytes 0-131071: "));
  EXPECT_EQ(server.requests(), 3);  // none is repeated
  status = 418;
  EXPECT_CODE(open_and_read(), http_status);
  EXPECT_EQ(server.requests(), 4);
}

TEST_F(RemoteErrors, RepeatsWhatMayPass) {
  for (const int wrong : {408, 429, 500, 502, 503, 504}) {
    left = 2;
    server.change = [this, wrong](const ServerRequest&, ServerAnswer& answer) {
      if (left-- > 0) answer.status = wrong;
    };
    const auto read = open_and_read();
    ASSERT_TRUE(read) << read.error().message;
    EXPECT_EQ(*read, expected());
  }
}

TEST_F(RemoteErrors, GivesUpAfterItsRetries) {
  server.change = [](const ServerRequest&, ServerAnswer& answer) { answer.status = 503; };
  RemoteOptions options = patient();
  options.retries = 2;
  const auto read = open_and_read(options);
  EXPECT_CODE(read, http_status);
  EXPECT_THAT(read.error().message, HasSubstr("found status 503, after 3 attempts"));
  EXPECT_EQ(server.requests(), 3);
}

TEST_F(RemoteErrors, WaitsAsLongAsTheServerAsks) {
  left = 1;
  server.change = [&](const ServerRequest&, ServerAnswer& answer) {
    if (left-- <= 0) return;
    answer.status = 429;
    answer.set("Retry-After", "1");
  };
  const auto begin = std::chrono::steady_clock::now();
  ASSERT_TRUE(open_and_read());
  EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::seconds(1));
  left = 1;
  RemoteOptions options = patient();
  options.longest_wait = std::chrono::milliseconds(500);
  const auto read = open_and_read(options);
  EXPECT_CODE(read, http_status);
  EXPECT_THAT(read.error().message, HasSubstr("asks to wait 1 s"));
}

TEST_F(RemoteErrors, GoesOnAfterACutConnection) {
  left = 3;
  server.change = [&](const ServerRequest& request, ServerAnswer& answer) {
    if (!is_first(request) && left-- > 0) answer.cut_after = 400'000;
    sent += std::min(answer.cut_after, answer.body.size());
  };
  const auto read = open_and_read();
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(*read, expected());
  EXPECT_LT(sent, 2'400'000);  // what had arrived was not sent again
}

TEST_F(RemoteErrors, TakesARangeThatIsCutAfterItsLastByte) {
  server.change = [](const ServerRequest& request, ServerAnswer& answer) {
    if (is_first(request)) return;
    std::ostringstream raw;
    raw << "HTTP/1.1 206 Partial Content\r\nTransfer-Encoding: chunked\r\nETag: "
        << answer.header("ETag") << "\r\nContent-Range: " << answer.header("Content-Range")
        << "\r\n\r\n"
        << std::hex << answer.body.size() << "\r\n"
        << answer.body;
    answer.raw = raw.str();
  };
  const auto read = open_and_read();
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(*read, expected());
}

TEST_F(RemoteErrors, NamesAStatusWhoseTextIsCut) {
  server.change = [this](const ServerRequest&, ServerAnswer& answer) {
    left += 1;
    answer.status = 404;
    answer.content_length = "5000";
    answer.cut_after = 10;
  };
  EXPECT_CODE(open_and_read(), file_not_found);
  EXPECT_EQ(left, 1);
}

TEST_F(RemoteErrors, NamesACutConnection) {
  server.change = [](const ServerRequest&, ServerAnswer& answer) { answer.cut_after = 10; };
  EXPECT_CODE(open_and_read(), connection_failed);
}

TEST_F(RemoteErrors, NamesAServerThatIsNotThere) {
  std::string url;
  {
    const TestServer gone;
    url = gone.url("/f");
  }
  const auto opened = Remote::make(patient()).value().open_source(url);
  EXPECT_CODE(opened, connection_failed);
  EXPECT_THAT(opened.error().message, HasSubstr(" from 'http://127.0.0.1:"));
}

TEST_F(RemoteErrors, NamesAServerWithoutTls) {
  const std::string url = "https://" + server.url("/f").substr(7);
  EXPECT_CODE(Remote::make(patient()).value().open_source(url), tls_failed);
}

TEST_F(RemoteErrors, NamesAStall) {
  RemoteOptions options = patient();
  options.retries = 1;
  options.stall_timeout = std::chrono::milliseconds(200);
  options.first_byte_timeout = std::chrono::milliseconds(200);
  server.change = [](const ServerRequest& request, ServerAnswer& answer) {
    if (is_first(request)) return;
    answer.stall_after = 100'000;
    answer.stall = std::chrono::hours(1);
  };
  EXPECT_CODE(open_and_read(options), timed_out);
  server.change = [](const ServerRequest&, ServerAnswer& answer) {
    answer.delay = std::chrono::hours(1);
  };
  EXPECT_CODE(open_and_read(options), timed_out);
}

TEST_F(RemoteErrors, NamesADribble) {
  RemoteOptions options = patient();
  options.retries = 1;
  options.stall_timeout = std::chrono::milliseconds(200);
  server.change = [](const ServerRequest&, ServerAnswer& answer) {
    answer.drip = std::chrono::milliseconds(20);
  };
  EXPECT_CODE(open_and_read(options), timed_out);
}

TEST_F(RemoteErrors, NamesAChangeByTheETag) {
  server.change = [](const ServerRequest& request, ServerAnswer& answer) {
    if (!is_first(request)) answer.set("ETag", "\"two\"");
  };
  EXPECT_CODE(open_and_read(), file_changed);
}

TEST_F(RemoteErrors, NamesAChangeThatTheServerSees) {
  server.serve("/g", pattern(3'000'000));
  const auto source = Remote::make(patient()).value().open_source(server.url("/g"));
  ASSERT_TRUE(source);
  server.serve("/g", pattern(3'000'001), "\"two\"");
  EXPECT_CODE(read_range(**source, 500'000, 2'000'000), file_changed);
  EXPECT_EQ(server.log().back().headers.at("if-match"), "\"one\"");
}

TEST_F(RemoteErrors, NamesAChangeWithoutAnETag) {
  test::ServedFile file;
  file.nbytes = 3'000'000;
  file.read = [](std::uint64_t offset, std::size_t nbytes) {
    return pattern(3'000'000).substr(static_cast<std::size_t>(offset), nbytes);
  };
  file.etag = "";
  file.last_modified = "Sun, 06 Nov 1994 08:49:37 GMT";
  server.serve("/g", file);
  const auto source = Remote::make(patient()).value().open_source(server.url("/g"));
  ASSERT_TRUE(source);
  ASSERT_TRUE(read_range(**source, 500'000, 2'000'000));
  EXPECT_EQ(server.log().back().headers.at("if-unmodified-since"), file.last_modified);
  file.last_modified = "Sun, 06 Nov 1994 08:49:38 GMT";
  server.serve("/g", file);
  EXPECT_CODE(read_range(**source, 500'000, 2'000'000), file_changed);
}

TEST_F(RemoteErrors, NamesAChangedSize) {
  server.change = [](const ServerRequest& request, ServerAnswer& answer) {
    if (!is_first(request)) answer.set("Content-Range", "bytes 500000-2499999/3000001");
  };
  EXPECT_CODE(open_and_read(), file_changed);
}

TEST_F(RemoteErrors, RefusesAnswersThatDoNotFit) {
  for (const std::string range : {"bytes 500001-2500000/3000000", "bytes 500000-2499998/3000000",
                                  "bytes 500000-2499999", "bytes 5-4/10", "bytes */3000000",
                                  "nonsense", "bytes 99999999999999999999-2499999/3000000"}) {
    server.change = [range](const ServerRequest& request, ServerAnswer& answer) {
      if (!is_first(request)) answer.set("Content-Range", range);
    };
    EXPECT_CODE(open_and_read(), http_protocol);
  }
}

TEST_F(RemoteErrors, RefusesSeveralRangesInOneAnswer) {
  server.change = [](const ServerRequest& request, ServerAnswer& answer) {
    if (is_first(request)) return;
    answer.remove("Content-Range");
    answer.set("Content-Type", "multipart/byteranges; boundary=x");
  };
  EXPECT_CODE(open_and_read(), http_protocol);
}

TEST_F(RemoteErrors, RefusesCompressedBytes) {
  server.change = [](const ServerRequest& request, ServerAnswer& answer) {
    if (!is_first(request)) answer.set("Content-Encoding", "gzip");
  };
  const auto read = open_and_read();
  EXPECT_CODE(read, http_protocol);
  EXPECT_THAT(read.error().message, HasSubstr("found 'gzip', expected identity"));
  EXPECT_EQ(server.log()[0].headers.at("accept-encoding"), "identity");
}

TEST_F(RemoteErrors, ReadsASmallFileWithoutRanges) {
  server.ranges = false;
  const auto read = open_and_read();
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(*read, expected());
  EXPECT_EQ(server.requests(), 1);
}

TEST_F(RemoteErrors, ReadsASmallFileOfUnknownSize) {
  server.ranges = false;
  server.change = [](const ServerRequest&, ServerAnswer& answer) { answer.chunked = true; };
  const auto read = open_and_read();
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(*read, expected());
}

TEST_F(RemoteErrors, NamesAServerWithoutRanges) {
  RemoteOptions options = patient();
  options.whole_nbytes = 1'000'000;
  server.ranges = false;
  const auto read = open_and_read(options);
  EXPECT_CODE(read, http_protocol);
  EXPECT_THAT(read.error().message,
              HasSubstr("the server ignores ranges: found status 200 with 3000000 bytes"));
  server.change = [](const ServerRequest&, ServerAnswer& answer) { answer.chunked = true; };
  EXPECT_CODE(open_and_read(options), http_protocol);
}

// A damaged file would be fetched whole for each of its chunks.
TEST_F(RemoteErrors, ASmallFileIsFetchedOnceForRereadsFromFrontToBack) {
  server.ranges = false;
  server.serve("/f", pattern(1'000'000));
  const auto source = Remote::make(patient()).value().open_source(server.url("/f")).value();
  std::string out(250'000, '\0');
  const auto reread = [&](std::uint64_t offset) {
    EXPECT_TRUE(source->reread_at(offset, std::as_writable_bytes(std::span(out))));
    EXPECT_EQ(out, pattern(1'000'000).substr(offset, out.size()));
    return server.requests();
  };
  EXPECT_EQ(reread(0), 2);
  EXPECT_EQ(reread(250'000), 2);
  EXPECT_EQ(reread(750'000), 2);
  EXPECT_EQ(reread(750'000), 3);
  EXPECT_EQ(reread(0), 4);
  EXPECT_EQ(reread(500'000), 4);
}

TEST_F(RemoteErrors, APromisedSizeIsNotAllocated) {
  RemoteOptions options = patient();
  options.whole_nbytes = (std::size_t{4} << 30) + 1;
  EXPECT_CODE(Remote::make(options), invalid_argument);
  options.whole_nbytes = std::size_t{4} << 30;
  server.ranges = false;
  server.change = [](const ServerRequest&, ServerAnswer& answer) {
    answer.content_length = "4294967296";
    answer.cut_after = 1'000'000;
  };
  EXPECT_CODE(open_and_read(options), connection_failed);
  server.change = [](const ServerRequest&, ServerAnswer& answer) { answer.chunked = true; };
  const auto read = open_and_read(options);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(*read, expected());
}

TEST_F(RemoteErrors, NamesAServerThatForgetsRangesLater) {
  server.change = [](const ServerRequest& request, ServerAnswer& answer) {
    if (is_first(request)) return;
    answer.status = 200;
    answer.body = pattern(3'000'000);
    answer.remove("Content-Range");
  };
  EXPECT_CODE(open_and_read(), http_protocol);
}

TEST_F(RemoteErrors, NamesWrongLengths) {
  server.change = [](const ServerRequest& request, ServerAnswer& answer) {
    if (!is_first(request)) answer.content_length = "5";
  };
  EXPECT_CODE(open_and_read(), http_protocol);  // ends early, each time
  server.change = [](const ServerRequest& request, ServerAnswer& answer) {
    if (!is_first(request)) answer.body += "and more";
  };
  EXPECT_CODE(open_and_read(), http_protocol);
}

TEST_F(RemoteErrors, RefusesAnImpossibleSize) {
  server.serve("/f", pattern(3'000'000));
  server.change = [](const ServerRequest&, ServerAnswer& answer) {
    answer.set("Content-Range", "bytes 0-131071/18446744073709551615");
  };
  EXPECT_CODE(Remote::make(patient()).value().open_source(server.url("/f")), http_protocol);
}

// A label of 64 characters cannot be asked for, so no name server is.
TEST_F(RemoteErrors, AsksAgainForAHostThatHasNoAddress) {
  const auto remote = Remote::make(patient());
  ASSERT_TRUE(remote);
  const std::string url = "http://" + std::string(64, 'a') + ".invalid/f";
  EXPECT_CODE(remote->open_source(url), connection_failed);
  EXPECT_EQ(remote->stats().retries, patient().retries);
}

TEST_F(RemoteErrors, NamesWhatIsNoHttp) {
  for (const std::string raw :
       {"\x01\x02 nothing of the kind\r\n\r\n", "HTTP/1.1\r\n\r\n", "HTTP/9.9 206 what\r\n\r\n"}) {
    server.change = [raw](const ServerRequest&, ServerAnswer& answer) { answer.raw = raw; };
    const auto read = open_and_read();
    ASSERT_FALSE(read);
    // What libcurl makes of an answer that it cannot read.
    EXPECT_TRUE(read.error().code == ErrorCode::http_protocol ||
                read.error().code == ErrorCode::connection_failed)
        << read.error().message;
  }
}

TEST_F(RemoteErrors, LimitsHeaders) {
  server.change = [](const ServerRequest&, ServerAnswer& answer) {
    for (int i = 0; i < 1000; ++i) answer.set("X-" + std::to_string(i), "value");
  };
  EXPECT_CODE(open_and_read(), http_protocol);
}

TEST_F(RemoteErrors, OpensAnEmptyFile) {
  server.serve("/empty", "");
  const auto source = Remote::make(patient()).value().open_source(server.url("/empty"));
  ASSERT_TRUE(source) << source.error().message;
  EXPECT_EQ((*source)->size(), 0);
}

TEST_F(RemoteErrors, EndsWhenTheCallerWishes) {
  std::atomic<bool> cancel = false;
  RemoteOptions options = patient();
  options.cancel = &cancel;
  left = 1;
  server.change = [&](const ServerRequest& request, ServerAnswer& answer) {
    if (is_first(request)) return;
    answer.delay = std::chrono::hours(1);
    left = 0;
  };
  std::thread caller([&] {
    while (left != 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    cancel = true;
  });
  EXPECT_EQ(open_and_read(options).error().code, ErrorCode::cancelled);
  caller.join();
}

TEST_F(RemoteErrors, ChecksItsOptions) {
  RemoteOptions options;
  options.max_connections = 0;
  EXPECT_CODE(Remote::make(options), invalid_argument);
  options = {};
  options.head_nbytes = 1;
  EXPECT_CODE(Remote::make(options), invalid_argument);
  options = {};
  options.ca_file = "/nothing/here.pem";
  EXPECT_CODE(Remote::make(options), file_not_found);
  options = {};
  options.system_ca_file = "/nothing/here.pem";
  EXPECT_CODE(Remote::make(options), file_not_found);
}

}  // namespace
}  // namespace flatbed
