// Remote: which URLs and redirects are refused, and who gets credentials.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <string>

#include "flatbed/remote.hpp"
#include "remote/remote_files.hpp"
#include "remote/test_server.hpp"
#include "remote/url.hpp"

namespace flatbed {
namespace {

using remote::parse_url;
using remote::resolve_redirect;
using test::one_tensor;
using test::patient;
using test::pattern;
using test::read_range;
using test::read_tensor;
using test::ServerAnswer;
using test::ServerRequest;
using test::TestServer;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(RemoteUrl, TakesUrlsApart) {
  const auto url = parse_url("HTTPS://Host.example:8443/a%20b/ü.safetensors?sig=s3cret");
  ASSERT_TRUE(url) << url.error().message;
  EXPECT_EQ(url->origin, "https://host.example:8443");
  EXPECT_EQ(url->path, "/a%20b/%c3%bc.safetensors");
  EXPECT_EQ(url->label(), "https://host.example:8443/a%20b/%c3%bc.safetensors?...");
  EXPECT_THAT(url->text, HasSubstr("sig=s3cret"));
  EXPECT_EQ(parse_url("http://[::1]:80/x")->origin, "http://[::1]");
  EXPECT_EQ(parse_url("http://[::1]:81/x")->text, "http://[::1]:81/x");
  EXPECT_EQ(parse_url("https://host")->path, "/");
  EXPECT_EQ(parse_url("https://host/a/../b")->path, "/b");
}

TEST(RemoteUrl, RefusesOthers) {
  for (const std::string_view text :
       {"", "host/path", "/local/path", "file:///etc/passwd", "ftp://host/a", "gopher://host/",
        "https://", "https:///a", "https://user@host/a", "https://user:s3cret@host/a",
        "https://:s3cret@host/a", "https://host:99999/a", "https://host:port/a", "https://[::1/a",
        "https://host/a#b", "https://host/a\nb", "https://ho st/a", "data://a", "ssh+git://a/b"}) {
    const auto url = parse_url(text);
    EXPECT_FALSE(url) << text;
    if (url) continue;
    EXPECT_EQ(name(url.error().code), "url_invalid") << text;
    EXPECT_THAT(url.error().message, Not(HasSubstr("s3cret")));
  }
  EXPECT_FALSE(parse_url("https://host/" + std::string(20'000, 'a')));
}

TEST(RemoteUrl, OfAHubWithAPasswordIsNotShown) {
  for (const std::string_view url : {"hf://user:s3cret@host/owner/name", "hf://s3cret@host/a"}) {
    const auto source = Remote::make(patient()).value().open_source(url);
    EXPECT_CODE(source, url_invalid);
    EXPECT_THAT(source.error().message, Not(HasSubstr("s3cret")));
  }
}

TEST(RemoteUrl, FollowsRedirectsToHttpAlone) {
  const auto from = parse_url("https://host/a/b").value();
  EXPECT_EQ(resolve_redirect(from, "c")->text, "https://host/a/c");
  EXPECT_EQ(resolve_redirect(from, "/c?x=1")->text, "https://host/c?x=1");
  EXPECT_EQ(resolve_redirect(from, "//other/c")->text, "https://other/c");
  EXPECT_EQ(resolve_redirect(from, "https://other:444/c#top")->text, "https://other:444/c");
  for (const std::string_view to : {"http://host/c", "file:///etc/passwd", "https://u:p@host/c",
                                    "ftp://host/c", "", "https://", "#"}) {
    EXPECT_CODE(resolve_redirect(from, to), redirect_refused);
  }
  const auto plain = parse_url("http://host/a").value();
  EXPECT_EQ(resolve_redirect(plain, "https://host/c")->text, "https://host/c");
}

TEST(RemoteUrl, NamesInFoldersAreEncoded) {
  TestServer server;
  server.serve("/m%20%23/model.safetensors.index.json",
               R"({"weight_map":{"w":"sub/a b%?#.safetensors"}})");
  server.serve("/m%20%23/sub/a%20b%25%3F%23.safetensors", one_tensor("w", "12345678"));
  const auto opened = open_url(server.url("/m%20%23/model.safetensors.index.json"), patient());
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_EQ(read_tensor(*opened, "w").value(), "12345678");
}

RemoteOptions with_token() {
  RemoteOptions options = patient();
  options.credentials = [](const CredentialsQuery&) -> Result<RemoteCredentials> {
    RemoteCredentials credentials;
    credentials.bearer_token = "s3cret";
    credentials.headers = {"X-Key: s3cret"};
    return credentials;
  };
  return options;
}

TEST(RemoteCredentials, GoToTheirOriginAlone) {
  TestServer second;
  TestServer first;
  second.serve("/real", pattern(3'000'000));
  first.change = [&](const ServerRequest&, ServerAnswer& answer) {
    answer.status = 302;
    answer.set("Location", second.url("/real?sig=abc"));
  };
  const auto remote = Remote::make(with_token()).value();
  const auto source = remote.open_source(first.url("/f"));
  ASSERT_TRUE(source) << source.error().message;
  EXPECT_EQ(read_range(**source, 200'000, 2'000'000).value(),
            pattern(3'000'000).substr(200'000, 2'000'000));
  EXPECT_EQ(first.requests(), 1);  // the place is remembered
  EXPECT_EQ(first.log()[0].headers.at("authorization"), "Bearer s3cret");
  EXPECT_EQ(first.log()[0].headers.at("x-key"), "s3cret");
  for (const ServerRequest& request : second.log()) {
    EXPECT_FALSE(request.headers.contains("authorization"));
    EXPECT_FALSE(request.headers.contains("x-key"));
  }
  EXPECT_EQ((*source)->label(), first.url("/f"));
}

TEST(RemoteCredentials, AreAskedForAgainOnce) {
  TestServer server;
  server.serve("/f", pattern(1000));
  server.change = [](const ServerRequest& request, ServerAnswer& answer) {
    if (request.headers.at("authorization") != "Bearer new") answer.status = 401;
  };
  RemoteOptions options = patient();
  std::atomic<int> refused = 0;
  options.credentials = [&](const CredentialsQuery& query) -> Result<RemoteCredentials> {
    refused += query.refused ? 1 : 0;
    RemoteCredentials credentials;
    credentials.bearer_token = refused > 0 ? "new" : "old";
    return credentials;
  };
  const auto source = Remote::make(options).value().open_source(server.url("/f"));
  ASSERT_TRUE(source) << source.error().message;
  EXPECT_EQ(refused, 1);
  EXPECT_EQ(server.requests(), 2);
}

TEST(RemoteCredentials, AreNotRepeatedWhereTheyStayRefused) {
  TestServer server;
  server.change = [](const ServerRequest&, ServerAnswer& answer) { answer.status = 403; };
  const auto source = Remote::make(with_token()).value().open_source(server.url("/f"));
  EXPECT_CODE(source, permission_denied);
  EXPECT_THAT(source.error().message, Not(HasSubstr("s3cret")));
  EXPECT_EQ(server.requests(), 1);
}

TEST(RemoteCredentials, WithLineBreaksAreRefused) {
  TestServer server;
  RemoteOptions options = patient();
  options.credentials = [](const CredentialsQuery&) -> Result<RemoteCredentials> {
    RemoteCredentials credentials;
    credentials.bearer_token = "a\r\nHost: other";
    return credentials;
  };
  EXPECT_CODE(Remote::make(options).value().open_source(server.url("/f")), invalid_argument);
  EXPECT_EQ(server.requests(), 0);
}

TEST(RemoteRedirect, InCirclesIsRefused) {
  TestServer server;
  server.change = [&](const ServerRequest&, ServerAnswer& answer) {
    answer.status = 307;
    answer.set("Location", "/f");
  };
  EXPECT_CODE(Remote::make(patient()).value().open_source(server.url("/f")), redirect_refused);
  EXPECT_LT(server.requests(), 20);
}

TEST(RemoteRedirect, ToAFileIsRefused) {
  TestServer server;
  server.change = [&](const ServerRequest&, ServerAnswer& answer) {
    answer.status = 302;
    answer.set("Location", "file:///etc/passwd");
  };
  EXPECT_CODE(Remote::make(patient()).value().open_source(server.url("/f")), redirect_refused);
}

TEST(RemoteRedirect, TheETagIsAConditionForItsOwnServerAlone) {
  std::atomic<int> asked = 0;
  TestServer second;
  TestServer first;
  second.serve("/a", pattern(3'000'000));
  second.serve("/b", pattern(3'000'000));
  // Its own ETag of the file is another one.
  first.change = [&](const ServerRequest& request, ServerAnswer& answer) {
    answer.status = request.headers.contains("if-match") ? 412 : 302;
    answer.set("ETag", "\"commit\"");
    if (answer.status == 302) answer.set("Location", second.url(asked++ == 0 ? "/a" : "/b"));
  };
  const auto source = Remote::make(patient()).value().open_source(first.url("/f"));
  ASSERT_TRUE(source);
  second.remove("/a");
  const auto read = read_range(**source, 200'000, 2'000'000);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(second.log().back().headers.at("if-match"), "\"one\"");
  second.serve("/b", pattern(3'000'000), "\"two\"");
  EXPECT_CODE(read_range(**source, 200'000, 2'000'000), file_changed);
}

TEST(RemoteRedirect, IsAskedForAgainWhenItsTimeIsOver) {
  std::atomic<int> asked = 0;
  TestServer second;
  TestServer first;
  second.serve("/a", pattern(3'000'000));
  second.serve("/b", pattern(3'000'000));
  first.change = [&](const ServerRequest&, ServerAnswer& answer) {
    answer.status = 302;
    answer.set("Location", second.url(asked++ == 0 ? "/a" : "/b"));
  };
  const auto source = Remote::make(patient()).value().open_source(first.url("/f"));
  ASSERT_TRUE(source);
  second.remove("/a");
  const auto read = read_range(**source, 200'000, 2'000'000);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_TRUE(*read == pattern(3'000'000).substr(200'000, 2'000'000));
}

}  // namespace
}  // namespace flatbed
