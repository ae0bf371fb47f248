// s3:// over a server that answers as S3 may, and as it should not: URLs, signatures, errors in
// XML, lists, and uploads that meet faults at every step.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <fstream>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "flatbed/byte_sink.hpp"
#include "flatbed/remote.hpp"
#include "flatbed/save.hpp"
#include "flatbed/save_plan.hpp"
#include "flatbed/save_torch.hpp"
#include "flatbed/scan.hpp"
#include "remote/digest.hpp"
#include "remote/remote_files.hpp"
#include "remote/s3_answer.hpp"
#include "remote/s3_place.hpp"
#include "remote/s3_sink.hpp"
#include "remote/test_server.hpp"
#include "remote/xml.hpp"
#include "support/expect_error.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using remote::place_s3;
using test::patient;
using test::pattern;
using test::read_range;
using test::ServerAnswer;
using test::ServerRequest;
using test::TestServer;

constexpr std::size_t kMiB = std::size_t{1} << 20;

TEST(S3Place, AmazonHasTheBucketInTheHostOrThePath) {
  EXPECT_EQ(place_s3("s3://bucket/a/b c+%25.bin", {.region = "eu-west-1"})->url().text,
            "https://bucket.s3.eu-west-1.amazonaws.com/a/b%20c%2B%2525.bin");
  EXPECT_EQ(place_s3("s3://my.bucket/key", {})->url().text,
            "https://s3.us-east-1.amazonaws.com/my.bucket/key");
  EXPECT_EQ(place_s3("s3://bucket/k", {.region = "cn-north-1"})->url().text,
            "https://bucket.s3.cn-north-1.amazonaws.com.cn/k");
  EXPECT_EQ(place_s3("s3://bucket/k", {.endpoint = "http://[::1]:9000"})->url().text,
            "http://[::1]:9000/bucket/k");
  EXPECT_EQ(place_s3("s3://bucket/k",
                     {.endpoint = "https://host/base", .addressing = S3Addressing::virtual_host})
                ->url()
                .text,
            "https://bucket.host/base/k");
  const auto version = place_s3("s3://bucket/k?versionId=a/b", {}).value();
  EXPECT_EQ(version.key, "k");
  EXPECT_TRUE(version.url().text.ends_with("/k?versionId=a%2Fb"));
  EXPECT_EQ(place_s3("s3://bucket", {})->key, "");
}

TEST(S3Place, RefusesWhatIsNoObject) {
  for (const std::string url :
       {"s3://", "s3:///key", "s3://user:pass@bucket/key", "s3://bucket:80/key", "s3://b/../key",
        "s3://b/a/./c", "s3://b/a\nb", "s3://-b/key"})
    EXPECT_ERROR(place_s3(url, {}), url_invalid) << url;
  EXPECT_EQ(place_s3("s3://user:s3cret@b/key", {}).error().message.find("s3cret"),
            std::string::npos);
  EXPECT_ERROR(place_s3("s3://b/" + std::string(1025, 'k'), {}), url_invalid);
  EXPECT_OK(place_s3("s3://b/" + std::string(1024, 'k'), {}));
  EXPECT_ERROR(place_s3("s3://b/k", {.endpoint = "ftp://host"}), invalid_argument);
  EXPECT_ERROR(place_s3("s3://b/k", {.region = "eu/../x"}), invalid_argument);
}

TEST(S3Answer, XmlIsReadWithinLimits) {
  const auto ignore = [](std::string_view, std::string_view) {};
  EXPECT_OK(remote::read_leaves("<a><b>x</b></a>", ignore));
  for (const std::string& text :
       {std::string(""), std::string("<a>"), std::string("<a></b>"), std::string("plain"),
        std::string("<!DOCTYPE a [<!ENTITY e \"x\">]><a>&e;</a>"),
        std::string("<a>&undefined;</a>"), "<a>" + std::string(70'000, 'x') + "</a>"})
    EXPECT_ERROR(remote::read_leaves(text, ignore), http_protocol) << text.substr(0, 40);
  std::string deep;
  for (int i = 0; i < 20; ++i) deep += "<a>";
  for (int i = 0; i < 20; ++i) deep += "</a>";
  EXPECT_ERROR(remote::read_leaves(deep, ignore), http_protocol);
}

TEST(S3Answer, ListsAreReadAndBrokenOnesRefused) {
  const auto list = remote::parse_s3_list(
      "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"x\"><EncodingType>url</EncodingType>"
      "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"
      "<Contents><Key>a+b%2Bc</Key><Size>1</Size></Contents><Contents><Key>d</Key></Contents>"
      "<CommonPrefixes><Prefix>e+f/</Prefix></CommonPrefixes></ListBucketResult>");
  ASSERT_OK(list);
  EXPECT_EQ(list->keys, (std::vector<std::string>{"a b+c", "d"}));
  EXPECT_EQ(list->prefixes, std::vector<std::string>{"e f/"});
  EXPECT_EQ(list->next, "t");
  EXPECT_ERROR(remote::parse_s3_list("<html>login</html>"), http_protocol);
  EXPECT_ERROR(
      remote::parse_s3_list("<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>"),
      http_protocol);
  EXPECT_ERROR(remote::parse_s3_list("<ListBucketResult><Contents><Key>a"), http_protocol);
}

std::string s3_error(const std::string& code, const std::string& more = "") {
  return "<?xml version=\"1.0\"?><Error><Code>" + code + "</Code><Message>why</Message>" + more +
         "</Error>";
}

RemoteOptions options_for(const TestServer& server) {
  RemoteOptions options = patient();
  options.s3.endpoint = server.url("");
  options.credentials = [](const CredentialsQuery& query) -> Result<RemoteCredentials> {
    RemoteCredentials credentials;
    if (query.origin == "s3") {
      credentials.access_key_id = "AKID";
      credentials.secret_access_key = "topsecret";
      credentials.session_token = "tokentext";
    }
    return credentials;
  };
  return options;
}

// Answers the first request with `answer`.
void answer_first(TestServer& server, int status, const std::string& body) {
  server.change = [=](const ServerRequest& request, ServerAnswer& answer) {
    if (request.number > 0) return;
    answer = {};
    answer.status = status;
    answer.body = body;
  };
}

TEST(S3Errors, AreNamedByTheirCode) {
  struct Case {
    int status;
    std::string body;
    ErrorCode code;
    std::string says;
  };
  for (const Case& c : std::vector<Case>{
           {404, s3_error("NoSuchKey"), ErrorCode::file_not_found, "NoSuchKey"},
           {404, s3_error("NoSuchBucket"), ErrorCode::file_not_found, "no such bucket"},
           {403, s3_error("AccessDenied"), ErrorCode::permission_denied, "AccessDenied"},
           {403, s3_error("SignatureDoesNotMatch"), ErrorCode::permission_denied, "Signature"},
           {400, s3_error("ExpiredToken"), ErrorCode::permission_denied, "ExpiredToken"},
           {400, s3_error("Odd"), ErrorCode::http_status, "status 400, 'Odd'"},
           {400, s3_error("AuthorizationHeaderMalformed", "<Region>eu-west-1</Region>"),
            ErrorCode::redirect_refused, "'eu-west-1'"},
           {301, s3_error("PermanentRedirect"), ErrorCode::redirect_refused, "another region"},
           {404, "<Error><Code>NoSuch", ErrorCode::file_not_found, "status 404"},
           {403, "", ErrorCode::permission_denied, "status 403"},
           {403, "<!DOCTYPE a [<!ENTITY e \"x\">]><Error><Code>&e;</Code></Error>",
            ErrorCode::permission_denied, "status 403"}}) {
    TestServer server;
    answer_first(server, c.status, c.body);
    const auto opened = Remote::make(options_for(server)).value().open_source("s3://bucket/key");
    ASSERT_FALSE(opened) << c.body;
    EXPECT_EQ(opened.error().code, c.code) << c.body;
    EXPECT_NE(opened.error().message.find(c.says), std::string::npos) << opened.error().message;
    EXPECT_EQ(opened.error().message.find("topsecret"), std::string::npos);
    EXPECT_EQ(opened.error().message.find("tokentext"), std::string::npos);
    EXPECT_EQ(opened.error().message.find("no credentials"), std::string::npos);
  }
}

TEST(S3Errors, WhatMayPassIsTriedAgain) {
  for (const auto& [status, code] : std::vector<std::pair<int, std::string>>{
           {503, "SlowDown"}, {500, "InternalError"}, {400, "RequestTimeout"}}) {
    TestServer server;
    server.serve("/bucket/key", "bytes");
    answer_first(server, status, s3_error(code));
    const auto opened = Remote::make(options_for(server)).value().open_source("s3://bucket/key");
    EXPECT_OK(opened) << code;
    EXPECT_EQ(server.requests(), 2U);
  }
}

TEST(S3Requests, AreSignedWithTheTokenAndTheHash) {
  TestServer server;
  server.serve("/bucket/key", "bytes");
  ASSERT_OK(Remote::make(options_for(server)).value().open_source("s3://bucket/key"));
  const ServerRequest request = server.log().at(0);
  const std::string signature = request.headers.at("authorization");
  EXPECT_TRUE(signature.starts_with("AWS4-HMAC-SHA256 Credential=AKID/")) << signature;
  EXPECT_NE(signature.find("/us-east-1/s3/aws4_request"), std::string::npos) << signature;
  for (const char* name : {"host", "x-amz-content-sha256", "x-amz-date", "x-amz-security-token"})
    EXPECT_NE(signature.find(name), std::string::npos) << name;
  EXPECT_EQ(request.headers.at("x-amz-security-token"), "tokentext");
  EXPECT_EQ(request.headers.at("x-amz-content-sha256"), "UNSIGNED-PAYLOAD");
}

TEST(S3Requests, WithoutKeysAreAnonymous) {
  TestServer server;
  server.serve("/bucket/key", "bytes");
  RemoteOptions options = patient();
  options.s3.endpoint = server.url("");
  ASSERT_OK(Remote::make(options).value().open_source("s3://bucket/key"));
  EXPECT_FALSE(server.log().at(0).headers.contains("authorization"));
}

TEST(S3Lists, APageThatNamesItselfIsAnError) {
  TestServer server;
  server.change = [](const ServerRequest&, ServerAnswer& answer) {
    answer = {};
    answer.body =
        "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>same"
        "</NextContinuationToken><Contents><Key>p/a</Key></Contents></ListBucketResult>";
  };
  const auto folder = Remote::make(options_for(server)).value().open_folder("s3://bucket/p/");
  EXPECT_ERROR((*folder)->names(), http_protocol);
}

TEST(S3Lists, GiveFilesAndFoldersApart) {
  TestServer server;
  server.change = [](const ServerRequest&, ServerAnswer& answer) {
    answer = {};
    answer.body =
        "<ListBucketResult><Contents><Key>p/</Key></Contents><Contents><Key>p/a</Key></Contents>"
        "<CommonPrefixes><Prefix>p/sub/</Prefix></CommonPrefixes></ListBucketResult>";
  };
  const auto folder = Remote::make(options_for(server)).value().open_folder("s3://bucket/p/");
  EXPECT_EQ((*folder)->names().value(), std::vector<std::string>{"a"});
  EXPECT_EQ((*folder)->folders().value(), std::vector<std::string>{"sub"});
}

// What is below them was not seen, so a scan is not plain.
TEST(S3Lists, FoldersWithoutNamesCount) {
  struct Case {
    std::string url, body;
  };
  for (const Case& c :
       std::vector<Case>{{"s3://bucket/p/",
                          "<Contents><Key>p/a.safetensors</Key></Contents>"
                          "<CommonPrefixes><Prefix>p//</Prefix></CommonPrefixes>"},
                         {"s3://bucket/", "<CommonPrefixes><Prefix>/</Prefix></CommonPrefixes>"}}) {
    TestServer server;
    server.serve("/bucket/p/a.safetensors", test::one_tensor("w", "1234"));
    server.change = [=](const ServerRequest& request, ServerAnswer& answer) {
      if (request.path.find("list-type") == std::string::npos) return;
      answer = {};
      answer.body = "<ListBucketResult>" + c.body + "</ListBucketResult>";
    };
    const auto folder = Remote::make(options_for(server)).value().open_folder(c.url).value();
    EXPECT_EQ(folder->folders().value(), std::vector<std::string>{""}) << c.url;
    const auto report = scan(*folder, "");
    ASSERT_OK(report);
    EXPECT_NE(report->verdict, ScanVerdict::plain) << c.url;
    EXPECT_EQ(report->files.back().what, "a folder without a name");
  }
}

TEST(S3Lists, FilesAndFoldersAreOfOneList) {
  TestServer server;
  server.change = [](const ServerRequest& request, ServerAnswer& answer) {
    const std::string number = std::to_string(request.number);
    answer = {};
    answer.body = "<ListBucketResult><Contents><Key>p/a" + number +
                  "</Key></Contents><CommonPrefixes><Prefix>p/b" + number +
                  "/</Prefix></CommonPrefixes></ListBucketResult>";
  };
  const auto folder = Remote::make(options_for(server)).value().open_folder("s3://bucket/p/");
  EXPECT_EQ((*folder)->names().value(), std::vector<std::string>{"a0"});
  EXPECT_EQ((*folder)->folders().value(), std::vector<std::string>{"b0"});
  EXPECT_EQ(server.requests(), 1U);
  EXPECT_EQ((*folder)->names().value(), std::vector<std::string>{"a1"});
  EXPECT_EQ((*folder)->folders().value(), std::vector<std::string>{"b1"});
}

TEST(S3Lists, FilesAndFoldersHaveLimitsOfTheirOwn) {
  for (const int count : {60'000, 100'001}) {
    std::string body = "<ListBucketResult>";
    for (int i = 0; i < 60'000; ++i)
      body += "<Contents><Key>p/a" + std::to_string(i) + "</Key></Contents>";
    for (int i = 0; i < count; ++i)
      body += "<CommonPrefixes><Prefix>p/b" + std::to_string(i) + "/</Prefix></CommonPrefixes>";
    body += "</ListBucketResult>";
    TestServer server;
    server.change = [body](const ServerRequest&, ServerAnswer& answer) {
      answer = {};
      answer.body = body;
    };
    const auto folder = Remote::make(options_for(server)).value().open_folder("s3://bucket/p/");
    const auto names = (*folder)->names();
    if (count > 100'000) {
      EXPECT_ERROR(names, limit_exceeded);
      continue;
    }
    ASSERT_OK(names);
    EXPECT_EQ(names->size(), 60'000U);
    EXPECT_EQ((*folder)->folders()->size(), 60'000U);
  }
}

TEST(S3Lists, PagesThatNeverEndAreAnError) {
  TestServer server;
  server.change = [](const ServerRequest& request, ServerAnswer& answer) {
    answer = {};
    answer.body = "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>" +
                  std::to_string(request.number) + "</NextContinuationToken></ListBucketResult>";
  };
  const auto folder = Remote::make(options_for(server)).value().open_folder("s3://bucket/p/");
  EXPECT_ERROR((*folder)->names(), limit_exceeded);
  EXPECT_EQ(server.requests(), 1'000U);
}

// A bucket in memory, as far as uploads need one. `fault` may change the answer to any request.
// Stops the server when it is destroyed: a request that was given up may still be answered. So what
// a fault uses is declared before the server.
class FakeBucket {
 public:
  explicit FakeBucket(TestServer& server) : server_(server) {
    server.change = [this](const ServerRequest& request, ServerAnswer& answer_to) {
      answer(request, answer_to);
    };
  }
  FakeBucket(const FakeBucket&) = delete;
  FakeBucket& operator=(const FakeBucket&) = delete;
  ~FakeBucket() { server_.stop(); }

  // What the server does with a request; also for a test that has a part in it.
  void answer(const ServerRequest& request, ServerAnswer& answer) {
    const std::lock_guard lock(mutex_);
    answer = {};
    const bool before = fault && fault(request, answer, false);
    if (!before) take(request, answer);
    if (!before && fault) fault(request, answer, true);
  }

  // Called before the request counts (true: it does not), and after.
  using Fault = std::function<bool(const ServerRequest&, ServerAnswer&, bool after)>;
  Fault fault;

  // Of another writer. Only within a fault.
  void put_whole(const std::string& key, const std::string& bytes) {
    objects_[key] = bytes;
    etags_[key] = etag_of(Parts{{1, bytes}});
  }

  [[nodiscard]] std::map<std::string, std::string> objects() const {
    const std::lock_guard lock(mutex_);
    return objects_;
  }
  // Where bytes differ that are many, GoogleTest would take gigabytes to say how.
  [[nodiscard]] bool holds(const std::string& key, const std::string& bytes) const {
    const std::lock_guard lock(mutex_);
    const auto found = objects_.find(key);
    return found != objects_.end() && found->second == bytes;
  }
  [[nodiscard]] std::size_t open_uploads() const {
    const std::lock_guard lock(mutex_);
    return uploads_.size();
  }

 private:
  using Parts = std::map<std::size_t, std::string>;

  static std::string etag_of(const std::string& bytes) {
    return '"' + remote::hex_of(remote::md5_of(std::as_bytes(std::span(bytes))).value()) + '"';
  }
  // Of an object of several parts: the sum of their sums.
  static std::string etag_of(const Parts& parts) {
    std::vector<std::byte> sums;
    for (const auto& [number, bytes] : parts) {
      const remote::Md5 sum = remote::md5_of(std::as_bytes(std::span(bytes))).value();
      sums.insert(sums.end(), sum.begin(), sum.end());
    }
    return '"' + remote::hex_of(remote::md5_of(sums).value()) + '-' + std::to_string(parts.size()) +
           '"';
  }
  void take(const ServerRequest& request, ServerAnswer& answer) {
    const std::size_t query = std::min(request.path.find('?'), request.path.size());
    const std::string key = request.path.substr(0, query);
    const std::string rest = request.path.substr(query);
    if (rest == "?uploads=") {
      uploads_["id" + std::to_string(++ids_)];
      answer.body = "<InitiateMultipartUploadResult><UploadId>id" + std::to_string(ids_) +
                    "</UploadId></InitiateMultipartUploadResult>";
    } else if (const std::size_t id = rest.find("uploadId="); id != std::string::npos) {
      take_upload(request, key, rest.substr(id + 9), answer);
    } else if (request.method == "PUT") {
      if (refuses(request, key, answer)) return;
      objects_[key] = request.body;
      etags_[key] = etag_of(request.body);
      answer.set("etag", etags_[key]);
    } else if (request.method == "DELETE") {
      objects_.erase(key);
      answer.status = 204;
    } else if (objects_.contains(key)) {
      answer.set("etag", etags_[key]);
    } else {
      answer.status = 404;
    }
  }
  void take_upload(const ServerRequest& request, const std::string& key, const std::string& id,
                   ServerAnswer& answer) {
    if (!uploads_.contains(id)) {
      answer.status = 404;
      answer.body = s3_error("NoSuchUpload");
    } else if (request.method == "DELETE") {
      uploads_.erase(id);
      answer.status = 204;
    } else if (request.method == "PUT") {
      const std::size_t number =
          std::stoul(request.path.substr(request.path.find("partNumber=") + 11));
      uploads_[id][number] = request.body;
      answer.set("etag", etag_of(request.body));
    } else {
      if (refuses(request, key, answer)) return;
      std::string whole;
      for (const auto& [number, bytes] : uploads_[id]) whole += bytes;
      etags_[key] = etag_of(uploads_[id]);
      uploads_.erase(id);
      objects_[key] = whole;
      answer.body = "<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>";
    }
  }
  bool refuses(const ServerRequest& request, const std::string& key, ServerAnswer& answer) {
    if (!request.headers.contains("if-none-match") || !objects_.contains(key)) return false;
    answer.status = 412;
    answer.body = s3_error("PreconditionFailed");
    return true;
  }

  TestServer& server_;
  mutable std::mutex mutex_;
  std::map<std::string, std::string> objects_;
  std::map<std::string, std::string> etags_;
  std::map<std::string, Parts> uploads_;
  int ids_ = 0;
};

Result<void> upload(const TestServer& server, const std::string& bytes, bool replace = false) {
  FLATBED_ASSIGN(const Remote remote, Remote::make(options_for(server)));
  FLATBED_ASSIGN(const auto sink, remote.create("s3://bucket/key", {.replace = replace}));
  FLATBED_TRY(sink->begin({bytes.size(), 0}));
  for (std::size_t at = 0; at < bytes.size(); at += kMiB)
    FLATBED_TRY(sink->write_at(
        at, std::as_bytes(std::span(bytes)).subspan(at, std::min(kMiB, bytes.size() - at))));
  return sink->commit();
}

const std::string& large() {
  static const std::string bytes = pattern(3 * 8 * kMiB + 1234);
  return bytes;
}

TEST(S3Upload, IsWholeAndOfParts) {
  TestServer server;
  FakeBucket bucket(server);
  ASSERT_OK(upload(server, large()));
  EXPECT_TRUE(bucket.holds("/bucket/key", large()));
  EXPECT_EQ(bucket.open_uploads(), 0U);
  std::set<std::string> parts;
  for (const ServerRequest& request : server.log()) {
    if (request.path.ends_with("?uploads=")) {
      EXPECT_EQ(request.headers.at("content-type"), "application/octet-stream");
    }
    if (request.method != "PUT") continue;
    parts.insert(request.path.substr(0, request.path.find('&')));
    EXPECT_FALSE(request.headers.contains("transfer-encoding"));
    EXPECT_EQ(request.headers.at("content-md5").size(), 24U);
  }
  EXPECT_EQ(parts.size(), 4U);
}

// Of a thread of this process, as the kernel says.
bool sleeps(pid_t thread) {
  std::ifstream file("/proc/self/task/" + std::to_string(thread) + "/stat");
  std::string stat;
  std::getline(file, stat);
  const std::size_t after = stat.rfind(") ");
  return after != std::string::npos && stat.compare(after + 2, 1, "S") == 0;
}

// Holds the first PUT of a part until another one has been answered, or the sink's thread waits
// while it sends the part again.
class HeldPart {
 public:
  HeldPart(TestServer& server, FakeBucket& bucket, const std::string& part) {
    server.change = [this, &bucket, part](const ServerRequest& request, ServerAnswer& answer) {
      const bool held = request.method == "PUT" && request.path.find(part) != std::string::npos;
      if (held && arrived_++ == 0) hold();
      bucket.answer(request, answer);
      if (held) ++answered_;
    };
  }
  void wait_until_held() const {
    for (int waits = 0; waits < kMostWaits && arrived_ == 0; ++waits) pause();
  }
  Result<void> rewrite(ByteSink& sink, std::uint64_t offset, std::span<const std::byte> bytes) {
    rewriting_ = gettid();
    Result<void> rewritten = sink.rewrite_at(offset, bytes);
    rewriting_ = 0;
    return rewritten;
  }

 private:
  static constexpr int kMostWaits = 60'000;  // if the test fails before
  static void pause() { std::this_thread::sleep_for(std::chrono::milliseconds(1)); }
  // A thread that is about to go on may sleep for a moment, too.
  void hold() const {
    int seen = 0;
    for (int waits = 0; waits < kMostWaits && seen < 20 && answered_ == 0; ++waits) {
      pause();
      const pid_t thread = rewriting_;
      seen = thread != 0 && sleeps(thread) ? seen + 1 : 0;
    }
  }

  std::atomic<int> arrived_ = 0;
  std::atomic<int> answered_ = 0;
  std::atomic<pid_t> rewriting_ = 0;
};

// A part that has left takes the place of the first one, also if that was still on its way.
TEST(S3Upload, PartsMayBeSentAgain) {
  std::string wrong = large();
  TestServer server;
  FakeBucket bucket(server);
  HeldPart second(server, bucket, "partNumber=2&");
  const auto remote = Remote::make(options_for(server)).value();
  const auto sink = remote.create("s3://bucket/key").value();
  wrong[9 * kMiB] ^= 1;    // in the second part
  wrong[25'166'000] ^= 1;  // in the last one, which is not complete
  const std::span<const std::byte> bytes = std::as_bytes(std::span(wrong));
  ASSERT_OK(sink->begin({wrong.size(), 0}));
  ASSERT_EQ(sink->rewrite_nbytes(), 8 * kMiB);
  const std::size_t left = 100;
  for (std::size_t at = 0; at < wrong.size() - left; at += kMiB)
    ASSERT_OK(sink->write_at(at, bytes.subspan(at, std::min(kMiB, wrong.size() - left - at))));
  const std::span<const std::byte> right = std::as_bytes(std::span(large()));
  second.wait_until_held();
  ASSERT_OK(second.rewrite(*sink, 8 * kMiB, right.subspan(8 * kMiB, 8 * kMiB)));
  ASSERT_OK(sink->rewrite_at(24 * kMiB, right.subspan(24 * kMiB, 1234 - left)));
  EXPECT_ERROR(sink->rewrite_at(kMiB, right.subspan(kMiB, kMiB)), invalid_argument);
  ASSERT_OK(sink->write_at(wrong.size() - left, right.last(left)));
  ASSERT_OK(sink->commit());
  EXPECT_TRUE(bucket.holds("/bucket/key", large()));
}

// No part has these bytes, of any size that a caller may name.
TEST(S3Upload, WhatIsNoPartIsNotSentAgain) {
  TestServer server;
  FakeBucket bucket(server);
  const Remote remote = Remote::make(options_for(server)).value();
  const auto sink = remote.create("s3://bucket/key").value();
  const std::span<const std::byte> bytes = std::as_bytes(std::span(large()));
  ASSERT_OK(sink->begin({5, 0}));
  ASSERT_OK(sink->write_at(0, bytes.first(4)));
  EXPECT_ERROR(sink->rewrite_at(0, bytes.first(6)), invalid_argument);
  EXPECT_ERROR(sink->rewrite_at(4, bytes.first(2)), invalid_argument);
  EXPECT_ERROR(sink->rewrite_at(8 * kMiB, bytes.first(1)), invalid_argument);
  EXPECT_ERROR(sink->rewrite_at(~std::uint64_t{0}, bytes.first(8 * kMiB)), invalid_argument);
  ASSERT_OK(sink->rewrite_at(0, bytes.first(5)));
  ASSERT_OK(sink->write_at(4, bytes.subspan(4, 1)));
  ASSERT_OK(sink->commit());
  EXPECT_EQ(bucket.objects().at("/bucket/key"), large().substr(0, 5));
}

TEST(S3Upload, BytesThatReachIntoTheNextPartAreNotSentAgain) {
  TestServer server;
  FakeBucket bucket(server);
  const Remote remote = Remote::make(options_for(server)).value();
  const auto sink = remote.create("s3://bucket/key").value();
  const std::span<const std::byte> bytes = std::as_bytes(std::span(large()));
  ASSERT_OK(sink->begin({large().size(), 0}));
  ASSERT_OK(sink->write_at(0, bytes.first(kMiB)));
  EXPECT_ERROR(sink->rewrite_at(kMiB, bytes.first(8 * kMiB)), invalid_argument);
  EXPECT_ERROR(sink->rewrite_at(8 * kMiB, bytes.first(8 * kMiB + 1)), invalid_argument);
}

// A server of one file, which damages one byte the first time that it is sent after damage().
class DamagingServer {
 public:
  DamagingServer(const std::string& file, std::uint64_t at) {
    server_.serve("/a.pth", file);
    server_.change = [this, at](const ServerRequest& request, ServerAnswer& answer) {
      const auto range = request.headers.find("range");
      if (range == request.headers.end() || answer.status != 206) return;
      const std::uint64_t begin = std::stoull(range->second.substr(6));
      if (at < begin || at - begin >= answer.body.size() || left_-- <= 0) return;
      answer.body[at - begin] ^= 1;
    };
  }
  [[nodiscard]] std::string url() const { return server_.url("/a.pth"); }
  void damage() { left_ = 1; }
  [[nodiscard]] bool damaged() const { return left_ < 1; }

 private:
  std::atomic<int> left_ = 0;
  TestServer server_;
};

// The record's CRC is known when most of its parts have left.
TEST(S3Upload, OfARecordThatArrivesDamagedIsRight) {
  const std::string file = test::many_records(1, 20 * kMiB);
  DamagingServer from(file, file.size() / 2);
  TestServer server;
  FakeBucket bucket(server);
  const Remote remote = Remote::make(options_for(server)).value();
  const SavePlan plan = make_plan(remote.open(from.url()).value()).value();
  from.damage();
  const auto report = save(*remote.create("s3://bucket/key").value(), plan);
  ASSERT_OK(report);
  EXPECT_TRUE(from.damaged());
  EXPECT_GE(report->chunks_reread, 1U);
  from.damage();
  ASSERT_OK(save_torch(*remote.create("s3://bucket/key.pth").value(), plan));
  EXPECT_TRUE(from.damaged());
  const test::TempDir dir;
  const auto clean = Checkpoint::open_memory(std::as_bytes(std::span(file)), "clean").value();
  ASSERT_OK(save(dir / "key", make_plan(clean).value(), {.sync = false}));
  EXPECT_TRUE(bucket.holds("/bucket/key", test::read_file(dir / "key")));
  ASSERT_OK(save_torch(dir / "key.pth", make_plan(clean).value(), {.file = {.sync = false}}));
  EXPECT_TRUE(bucket.holds("/bucket/key.pth", test::read_file(dir / "key.pth")));
}

TEST(S3Upload, ASmallFileIsOneRequestBesideTheQuestion) {
  TestServer server;
  FakeBucket bucket(server);
  ASSERT_OK(upload(server, "small"));
  EXPECT_EQ(bucket.objects().at("/bucket/key"), "small");
  EXPECT_EQ(server.requests(), 2U);
}

TEST(S3Upload, APartThatArrivesDamagedIsSentAgain) {
  std::atomic<int> refused = 0;
  TestServer server;
  FakeBucket bucket(server);
  bucket.fault = [&](const ServerRequest& request, ServerAnswer& answer, bool after) {
    if (after || request.method != "PUT" || ++refused > 2) return false;
    answer.status = 400;
    answer.body = s3_error("BadDigest");
    return true;
  };
  ASSERT_OK(upload(server, large()));
  EXPECT_TRUE(bucket.holds("/bucket/key", large()));
}

TEST(S3Upload, AnErrorOfAPartLeavesNothing) {
  TestServer server;
  FakeBucket bucket(server);
  bucket.fault = [&](const ServerRequest& request, ServerAnswer& answer, bool after) {
    if (after || request.path.find("partNumber=3") == std::string::npos) return false;
    answer.status = 403;
    answer.body = s3_error("AccessDenied");
    return true;
  };
  EXPECT_ERROR(upload(server, large()), permission_denied);
  EXPECT_TRUE(bucket.objects().empty());
  EXPECT_EQ(bucket.open_uploads(), 0U);
}

// The status was sent before the work was done.
TEST(S3Upload, AnErrorWithStatus200IsAnError) {
  for (const std::string& body :
       {s3_error("InternalError"), s3_error("InvalidPart"), std::string("<html>"), std::string()}) {
    TestServer server;
    FakeBucket bucket(server);
    bucket.fault = [&](const ServerRequest& request, ServerAnswer& answer, bool after) {
      if (after || request.method != "POST" || request.path.ends_with("uploads=")) return false;
      answer.body = body;
      return true;
    };
    EXPECT_FALSE(upload(server, large())) << body;
    EXPECT_TRUE(bucket.objects().empty());
    EXPECT_EQ(bucket.open_uploads(), 0U);
  }
}

TEST(S3Upload, ACompletionThatFailsOnceIsTriedAgain) {
  std::atomic<int> failed = 0;
  TestServer server;
  FakeBucket bucket(server);
  bucket.fault = [&](const ServerRequest& request, ServerAnswer& answer, bool after) {
    if (after || request.method != "POST" || request.path.ends_with("uploads=") || ++failed > 1)
      return false;
    answer.body = "  \n" + s3_error("InternalError");
    return true;
  };
  ASSERT_OK(upload(server, large()));
  EXPECT_TRUE(bucket.holds("/bucket/key", large()));
}

// The object is there, and its ETag says that it is this one: also where the server now says that
// there is no such upload, or that there is already an object.
TEST(S3Upload, ACompletionWhoseAnswerIsLostIsNoError) {
  for (const bool replace : {true, false}) {
    for (const std::string& bytes : {std::string("small"), large()}) {
      std::atomic<int> lost = 0;
      TestServer server;
      FakeBucket bucket(server);
      bucket.fault = [&](const ServerRequest& request, ServerAnswer& answer, bool after) {
        const bool last =
            request.path.find("partNumber") == std::string::npos &&
            (request.method == "PUT" ||
             (request.method == "POST" && request.path.find("?uploadId") != std::string::npos));
        if (after && last && ++lost == 1) answer.raw = "";
        return false;
      };
      EXPECT_OK(upload(server, bytes, replace));
      EXPECT_EQ(lost, 2);
      EXPECT_TRUE(bucket.holds("/bucket/key", bytes));
    }
  }
}

TEST(S3Upload, ASmallFileWhoseAnswerIsLostForGoodIsNoError) {
  for (const bool replace : {true, false}) {
    TestServer server;
    FakeBucket bucket(server);
    bucket.fault = [](const ServerRequest& request, ServerAnswer& answer, bool after) {
      if (after && request.method == "PUT") answer.raw = "";
      return false;
    };
    EXPECT_OK(upload(server, "small", replace));
    EXPECT_EQ(bucket.objects().at("/bucket/key"), "small");
  }
}

// The answer was lost, the object refuses the second request, and who sent both may not look.
TEST(S3Upload, AnObjectThatCannotBeSeenMayHaveBeenMade) {
  for (const std::string& bytes : {std::string("small"), large()}) {
    std::atomic<int> lost = 0;
    TestServer server;
    FakeBucket bucket(server);
    bucket.fault = [&](const ServerRequest& request, ServerAnswer& answer, bool after) {
      if (request.method == "HEAD") {
        answer.status = 403;
        answer.set("Server", "AmazonS3");
        return true;
      }
      const bool last =
          request.path.find("partNumber") == std::string::npos &&
          (request.method == "PUT" ||
           (request.method == "POST" && request.path.find("?uploadId") != std::string::npos));
      if (after && last && ++lost == 1) answer.raw = "";
      return false;
    };
    const auto sent = upload(server, bytes);
    ASSERT_FALSE(sent);
    EXPECT_NE(sent.error().code, ErrorCode::file_exists);
    EXPECT_NE(sent.error().message.find("this upload may have made the object"), std::string::npos)
        << sent.error().message;
    EXPECT_TRUE(bucket.holds("/bucket/key", bytes));
  }
}

TEST(S3Upload, OfAFolderMayHaveNoBytes) {
  TestServer server;
  FakeBucket bucket(server);
  const auto transport = Transport::make(options_for(server)).value();
  const auto place = place_s3("s3://bucket/key", transport->options().s3).value();
  remote::Uploads uploads;
  remote::S3Sink sink(std::make_unique<remote::S3Upload>(transport, place, false), &uploads);
  ASSERT_OK(sink.begin({0, 0}));
  ASSERT_OK(sink.commit());
  EXPECT_OK(uploads.at(0)->complete());
  EXPECT_EQ(bucket.objects().at("/bucket/key"), "");
}

// An upload whose completion drips for more than the time of a stall. `gap`: the longest time
// between two bytes of it.
Result<void> complete_slowly(std::chrono::milliseconds& gap) {
  TestServer server;
  FakeBucket bucket(server);
  bucket.fault = [](const ServerRequest& request, ServerAnswer& answer, bool after) {
    if (after && request.method == "POST" && request.path.find("uploadId=") != std::string::npos) {
      answer.body = std::string(40, ' ') + answer.body;
      answer.drip = std::chrono::milliseconds(25);  // 2.5 s and more
    }
    return false;
  };
  RemoteOptions options = options_for(server);
  options.stall_timeout = std::chrono::milliseconds(2000);
  options.retries = 0;
  FLATBED_ASSIGN(const Remote remote, Remote::make(options));
  FLATBED_ASSIGN(const auto sink, remote.create("s3://bucket/key"));
  FLATBED_TRY(sink->begin({large().size(), 0}));
  FLATBED_TRY(sink->write_at(0, std::as_bytes(std::span(large()))));
  Result<void> done = sink->commit();
  gap = server.longest_gap();
  if (!done) return done;
  EXPECT_EQ(server.log().back().method, "POST");  // no question what became of it
  EXPECT_TRUE(bucket.holds("/bucket/key", large()));
  return {};
}

// Where the machine itself stood still, it says nothing.
TEST(S3Upload, ACompletionMayTakeLongerThanAStall) {
  for (int attempts = 0; attempts < 20; ++attempts) {
    std::chrono::milliseconds gap{};
    const Result<void> done = complete_slowly(gap);
    if (done) return;
    if (gap < std::chrono::milliseconds(500)) FAIL() << done.error().message;
  }
  GTEST_SKIP() << "the machine stood still for half a second or more, each time";
}

TEST(S3Upload, APartWithAnotherETagIsSentAgainAndThenAnError) {
  std::atomic<int> wrong = 0;
  int times = 1;
  TestServer server;
  FakeBucket bucket(server);
  bucket.fault = [&](const ServerRequest& request, ServerAnswer& answer, bool after) {
    if (after && request.path.find("partNumber=2&") != std::string::npos && ++wrong <= times)
      answer.set("etag", "\"00000000000000000000000000000000\"");
    return false;
  };
  EXPECT_OK(upload(server, large(), true));
  times = 100;
  EXPECT_ERROR(upload(server, large(), true), http_protocol);
}

// The interruption comes while the server makes the upload.
TEST(S3Upload, AnUploadThatIsInterruptedAsItStartsLeavesNothing) {
  std::atomic<bool> cancel = false;
  TestServer server;
  FakeBucket bucket(server);
  bucket.fault = [&](const ServerRequest& request, ServerAnswer& answer, bool after) {
    if (after && request.path.ends_with("?uploads=")) {
      cancel = true;
      answer.delay = std::chrono::milliseconds(200);
    }
    return false;
  };
  RemoteOptions options = options_for(server);
  options.cancel = &cancel;
  const Remote remote = Remote::make(options).value();
  {
    const auto sink = remote.create("s3://bucket/key").value();
    ASSERT_OK(sink->begin({large().size(), 0}));
    static_cast<void>(sink->write_at(0, std::as_bytes(std::span(large()))).has_value());
    EXPECT_ERROR(sink->commit(), cancelled);
  }
  EXPECT_TRUE(bucket.objects().empty());
  EXPECT_EQ(bucket.open_uploads(), 0U);
}

TEST(S3Upload, NoUploadIdOrNoETagIsAnError) {
  for (const bool of_upload : {true, false}) {
    TestServer server;
    FakeBucket bucket(server);
    bucket.fault = [&](const ServerRequest& request, ServerAnswer& answer, bool after) {
      if (!after) return false;
      if (of_upload && request.path.ends_with("uploads=")) answer.body = "<a/>";
      if (!of_upload && request.method == "PUT") answer.headers.clear();
      return false;
    };
    EXPECT_ERROR(upload(server, large()), http_protocol);
    EXPECT_TRUE(bucket.objects().empty());
  }
}

TEST(S3Upload, FaultsAtAnyRequestLeaveAWholeObjectOrNone) {
  for (unsigned seed = 0; seed < 21; ++seed) {
    std::atomic<unsigned> number = 0;
    TestServer server;
    FakeBucket bucket(server);
    bucket.fault = [&](const ServerRequest&, ServerAnswer& answer, bool after) {
      if (after) {
        // The answer is lost, not the request.
        if (seed % 3 == 0 && number == seed % 7) answer.cut_after = 0;
        return false;
      }
      if (number++ != seed % 7 || seed % 3 == 0) return false;
      answer.status = seed % 3 == 1 ? 503 : 403;
      answer.body = s3_error(seed % 3 == 1 ? "SlowDown" : "AccessDenied");
      return true;
    };
    const Result<void> done = upload(server, large(), seed % 2 == 0);
    const auto objects = bucket.objects();
    if (done) {
      ASSERT_EQ(objects.size(), 1U) << seed;
    }
    for (const auto& [key, bytes] : objects) EXPECT_TRUE(bytes == large()) << seed;
  }
}

// Writes a set of two files, of which the second cannot be completed.
void fail_late(const TestServer& server, FakeBucket& bucket, bool replace,
               const FakeBucket::Fault& fault = {}) {
  bucket.fault = [fault](const ServerRequest& request, ServerAnswer& answer, bool after) {
    const bool last = request.path.find("b?uploadId") != std::string::npos;
    if (!after && last && request.method == "POST") {
      answer.status = 400;
      answer.body = s3_error("InvalidPart");
      return true;
    }
    return fault && fault(request, answer, after);
  };
  const Remote remote = Remote::make(options_for(server)).value();
  auto folder = remote.create_folder("s3://bucket/set/", {.replace = replace}).value();
  for (const std::string_view name : {"a", "b"}) {
    auto sink = folder->create(name).value();
    ASSERT_OK(sink->begin({5, 0}));
    ASSERT_OK(sink->write_at(0, std::as_bytes(std::span("12345", 5))));
    ASSERT_OK(sink->commit());
  }
  EXPECT_ERROR(folder->commit(), http_status);
}

TEST(S3Upload, WhatASetMadeIsRemovedIfItsIndexFails) {
  TestServer server;
  FakeBucket bucket(server);
  fail_late(server, bucket, false);
  EXPECT_TRUE(bucket.objects().empty());
  EXPECT_EQ(bucket.open_uploads(), 0U);
}

// Another writer of the same set was faster: its object has the same ETag.
TEST(S3Upload, AnEqualObjectOfAnotherWriterIsNotRemoved) {
  for (const bool replace : {false, true}) {
    std::atomic<bool> written = false;
    TestServer server;
    FakeBucket bucket(server);
    fail_late(
        server, bucket, replace, [&](const ServerRequest& request, ServerAnswer&, bool after) {
          const bool completes =
              request.path.find("a?uploadId") != std::string::npos && request.method == "POST";
          if (completes && !after && !written.exchange(true))
            bucket.put_whole("/bucket/set/a", "12345");
          return false;
        });
    EXPECT_TRUE(written);
    EXPECT_EQ(bucket.objects().size(), 1U) << replace;
    EXPECT_EQ(bucket.objects()["/bucket/set/a"], "12345") << replace;
    EXPECT_EQ(bucket.open_uploads(), 0U) << replace;
  }
}

TEST(S3Upload, OfABucketWithVersionsItsOwnIsRemoved) {
  TestServer server;
  FakeBucket bucket(server);
  fail_late(server, bucket, true,
            [](const ServerRequest& request, ServerAnswer& answer, bool after) {
              if (after && request.path.find("a?uploadId") != std::string::npos)
                answer.set("x-amz-version-id", "v/7");
              return false;
            });
  const auto log = server.log();
  const auto removes = [](const ServerRequest& request) {
    return request.method == "DELETE" && request.path == "/bucket/set/a?versionId=v%2F7";
  };
  EXPECT_EQ(std::ranges::count_if(log, removes), 1);
}

// Older versions of MinIO and SeaweedFS would replace what is there.
TEST(S3Upload, WhoMayNotListLetsAmazonDecide) {
  for (const std::string name : {"AmazonS3", "MinIO", "SeaweedFS 3.80", "other"}) {
    TestServer server;
    FakeBucket bucket(server);
    bucket.fault = [name](const ServerRequest& request, ServerAnswer& answer, bool) {
      if (request.method != "HEAD") return false;
      answer.status = 403;
      answer.set("Server", name);
      return true;
    };
    if (name != "AmazonS3") {
      EXPECT_ERROR(upload(server, "small"), permission_denied);
      EXPECT_TRUE(bucket.objects().empty());
      EXPECT_OK(upload(server, "small", true));
      continue;
    }
    EXPECT_OK(upload(server, "small"));
    EXPECT_EQ(bucket.objects().at("/bucket/key"), "small");
    // Nobody could tell whether it is this upload's.
    EXPECT_ERROR(upload(server, "other"), permission_denied);
    EXPECT_ERROR(upload(server, large()), permission_denied);
    EXPECT_EQ(bucket.objects().at("/bucket/key"), "small");
    EXPECT_EQ(bucket.open_uploads(), 0U);
  }
}

TEST(S3Upload, OtherSchemesAndFoldersAreRefused) {
  const Remote remote = Remote::make(patient()).value();
  EXPECT_ERROR(remote.create("https://host/key"), url_invalid);
  EXPECT_ERROR(remote.create("s3://bucket/"), url_invalid);
  EXPECT_ERROR(remote.create("s3://bucket/key?versionId=x"), url_invalid);
  EXPECT_ERROR(remote.create_folder("hf://owner/name"), url_invalid);
  const auto sink = remote.create("s3://bucket/key").value();
  EXPECT_ERROR(sink->begin({std::uint64_t{6} << 40, 0}), limit_exceeded);
}

}  // namespace
}  // namespace flatbed
