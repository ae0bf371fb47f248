// Remote: hf:// over a server that lists repositories as the Hub does, and as it should not.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "flatbed/checkpoint.hpp"
#include "flatbed/hub_listing.hpp"
#include "flatbed/remote.hpp"
#include "flatbed/scan.hpp"
#include "remote/hub_list.hpp"
#include "remote/remote_files.hpp"
#include "remote/test_server.hpp"
#include "support/expect_error.hpp"

namespace flatbed {
namespace {

using test::many_records;
using test::one_tensor;
using test::patient;
using test::read_tensor;
using test::ServerAnswer;
using test::ServerRequest;
using test::TestServer;

// A hub that lists the repository owner/name, at the revision v1/x. Thread-safe.
class ListingHub {
 public:
  ListingHub() {
    server.change = [this](const ServerRequest& request, ServerAnswer& answer) {
      const std::lock_guard lock(mutex_);
      if (!answers || !answers(request, answer)) answer_usually(request, answer);
    };
    options.hub_endpoint = server.url("");
  }
  void serve(const std::string& name, const std::string& bytes) {
    server.serve("/owner/name/resolve/" + commit + "/" + name, bytes);
  }
  // What is in a folder ("", "/folder").
  void list(const std::string& folder, const std::string& page) {
    const std::lock_guard lock(mutex_);
    pages_[folder] = page;
  }
  [[nodiscard]] Result<Checkpoint> open(const std::string& below = "") const {
    return open_url("hf://owner/name@v1%2Fx" + below, options);
  }

  const std::string commit = std::string(40, 'c');
  RemoteOptions options = patient();
  std::function<bool(const ServerRequest&, ServerAnswer&)> answers;  // before the first request

 private:
  void answer_usually(const ServerRequest& request, ServerAnswer& answer) {
    const std::string api = "/api/models/owner/name/";
    const std::string tree = api + "tree/" + commit;
    if (request.path == api + "revision/v1%2Fx") {
      answer.status = 200;
      answer.body = R"({"id":"owner/name","sha":")" + commit + R"(","config":{"a":[1]}})";
    } else if (const auto page =
                   pages_.find(request.path.substr(std::min(tree.size(), request.path.size())));
               request.path.starts_with(tree) && page != pages_.end()) {
      answer.status = 200;
      answer.body = page->second;
    }
  }

  std::mutex mutex_;
  std::map<std::string, std::string> pages_;

 public:
  TestServer server;  // ends first
};

std::string listed(const std::string& path) {
  return R"({"type":"file","oid":"x","size":1,"path":")" + path + R"(","lfs":{"size":1}})";
}

TEST(RemoteHub, ListsFilesOfAnyName) {
  ListingHub hub;
  hub.list("", R"([{"type":"directory","path":"unet"},)" + listed("README.md") + "," +
                   listed("weights-00002-of-00002.safetensors") + "," +
                   listed("weights-00001-of-00002.safetensors") + "]");
  hub.serve("weights-00001-of-00002.safetensors", one_tensor("a", "1234"));
  hub.serve("weights-00002-of-00002.safetensors", one_tensor("b", "5678"));
  const auto opened = hub.open();
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_EQ(read_tensor(*opened, "a").value() + read_tensor(*opened, "b").value(), "12345678");
  hub.list("", "[" + listed("epoch3.pth") + "]");
  hub.serve("epoch3.pth", many_records(2, 100));
  const auto torch = hub.open();
  ASSERT_TRUE(torch) << torch.error().message;
  EXPECT_EQ(torch->tensors().size(), 2U);
  hub.list("/unet%20b",
           "[" + listed("unet b/deep/c.safetensors") + "," + listed("unet b/c.safetensors") + "]");
  hub.serve("unet%20b/c.safetensors", one_tensor("c", "1234"));
  const auto below = hub.open("/unet%20b/");
  ASSERT_TRUE(below) << below.error().message;
  EXPECT_EQ(below->files()[0].path, "hf://owner/name@v1/x/unet b/c.safetensors");
}

// As where a folder cannot be listed: a repository often has a model in several formats.
TEST(RemoteHub, PrefersTheUsualNames) {
  ListingHub hub;
  hub.list("", "[" + listed("consolidated.safetensors") + "," + listed("model.safetensors") + "," +
                   listed("other.safetensors") + "]");
  hub.serve("model.safetensors", one_tensor("w", "1234"));
  const auto opened = hub.open();
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_EQ(opened->files()[0].path, "hf://owner/name@v1/x/model.safetensors");
}

TEST(RemoteHub, ListsPageByPage) {
  ListingHub hub;
  int pages = 0;  // guarded by the hub
  hub.answers = [&](const ServerRequest& request, ServerAnswer& answer) {
    if (request.path.find("/tree/") == std::string::npos) return false;
    answer.status = 200;
    answer.body = "[" + listed("file" + std::to_string(++pages)) + "]";
    const std::string next =
        request.path.substr(0, request.path.find('?')) + "?cursor=" + std::to_string(pages) + "%3D";
    if (pages < 3) {
      answer.set("Link", "<" + hub.server.url(next) + ">; rel=\"next\"");
    } else {
      answer.body = "[" + listed("last.safetensors") + "]";
    }
    return true;
  };
  hub.serve("last.safetensors", one_tensor("w", "1234"));
  const auto opened = hub.open();
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_EQ(pages, 3);
  std::vector<std::string> asked;
  for (const ServerRequest& request : hub.server.log()) {
    if (const std::size_t at = request.path.find('?'); at != std::string::npos)
      asked.push_back(request.path.substr(at));
  }
  EXPECT_EQ(asked, (std::vector<std::string>{"?cursor=1%3D", "?cursor=2%3D"}));
}

// The hub redirects to another server, whose list continues there, and then at the hub.
TEST(RemoteHub, ItsTokenGoesToNoOtherServer) {
  ListingHub hub;
  TestServer other;
  hub.options.credentials = [](const CredentialsQuery&) -> Result<RemoteCredentials> {
    RemoteCredentials credentials;
    credentials.bearer_token = "token";
    return credentials;
  };
  hub.answers = [&](const ServerRequest& request, ServerAnswer& answer) {
    if (request.path.find("/tree/") == std::string::npos) return false;
    if (request.path.ends_with("?last")) {
      answer.status = 200;
      answer.body = "[" + listed("last.safetensors") + "]";
      return true;
    }
    answer.status = 307;
    answer.set("Location", other.url("/1"));
    return true;
  };
  other.change = [&](const ServerRequest& request, ServerAnswer& answer) {
    answer = {};
    answer.body = "[]";
    const std::string last = hub.server.url("/api/models/owner/name/tree/x?last");
    answer.set("Link", "<" + (request.path == "/1" ? "/2" : last) + ">; rel=\"next\"");
  };
  hub.serve("last.safetensors", one_tensor("w", "1234"));
  const auto opened = hub.open();
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_EQ(other.requests(), 2U);
  for (const ServerRequest& request : other.log())
    EXPECT_FALSE(request.headers.contains("authorization")) << request.path;
  for (const ServerRequest& request : hub.server.log())
    EXPECT_TRUE(request.headers.contains("authorization")) << request.path;
}

TEST(RemoteHub, WithoutItsApiTheUsualNamesAreTried) {
  for (const int status : {200, 401, 403, 404, 405, 501}) {
    ListingHub hub;
    hub.answers = [&](const ServerRequest& request, ServerAnswer& answer) {
      if (!request.path.starts_with("/api/")) return false;
      answer.status = status;
      answer.body = "<html>";
      return true;
    };
    hub.server.serve("/owner/name/resolve/v1%2Fx/pytorch_model.bin", many_records(1, 100));
    const auto opened = hub.open();
    ASSERT_TRUE(opened) << status << opened.error().message;
  }
}

// As mirrors do that know of revisions alone. The commit counts nevertheless.
TEST(RemoteHub, WithoutAListTheUsualNamesOfTheCommitAreTried) {
  for (const int status : {200, 401, 403, 404, 405, 501}) {
    ListingHub hub;
    hub.answers = [&](const ServerRequest& request, ServerAnswer& answer) {
      if (request.path.find("/tree/") == std::string::npos) return false;
      answer.status = status;
      answer.body = "<html>";
      return true;
    };
    hub.serve("pytorch_model.bin", many_records(1, 100));
    const auto opened = hub.open();
    ASSERT_TRUE(opened) << status << opened.error().message;
  }
}

// The hub may have a list: what the usual names would open may not be what it says.
TEST(RemoteHub, AHubThatIsBusyIsAnError) {
  for (const int status : {429, 500, 503}) {
    for (const std::string part : {"/revision/", "/tree/"}) {
      ListingHub hub;
      hub.options.retries = 1;
      hub.answers = [&](const ServerRequest& request, ServerAnswer& answer) {
        if (request.path.find(part) == std::string::npos) return false;
        answer.status = status;
        return true;
      };
      hub.serve("model.safetensors", one_tensor("w", "1234"));
      hub.server.serve("/owner/name/resolve/v1%2Fx/model.safetensors", one_tensor("w", "1234"));
      EXPECT_CODE(hub.open(), http_status);
    }
  }
}

// A scan is of all that the hub lists, and names the folders.
TEST(RemoteHub, AScanSeesAllThatIsListed) {
  ListingHub hub;
  const std::string files = listed("consolidated.safetensors") + "," + listed("model.safetensors") +
                            "," + listed("other.pth");
  hub.list("", "[" + files + "]");
  hub.serve("consolidated.safetensors", one_tensor("w", "1234"));
  hub.serve("model.safetensors", one_tensor("w", "1234"));
  hub.serve("other.pth", many_records(1, 100));
  const Remote remote = Remote::make(hub.options).value();
  const auto report = scan(*remote.open_folder("hf://owner/name@v1%2Fx").value(), "");
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(report->files.size(), 3U);
  EXPECT_EQ(report->verdict, ScanVerdict::plain);
  hub.list("", "[" + files + R"(,{"type":"directory","path":"unet"}])");
  const auto second = scan(*remote.open_folder("hf://owner/name@v1%2Fx").value(), "");
  ASSERT_TRUE(second) << second.error().message;
  ASSERT_EQ(second->files.size(), 4U);
  EXPECT_FALSE(second->files[3].scanned);
  EXPECT_EQ(second->files[3].path, "hf://owner/name@v1/x/unet");
  EXPECT_EQ(second->files[3].what, "a folder");
}

TEST(RemoteHub, AScanOfWhatIsNotListedIsNotPlain) {
  ListingHub hub;
  hub.serve("model.safetensors", one_tensor("w", "1234"));
  const Remote remote = Remote::make(hub.options).value();
  const auto folder = remote.open_folder("hf://owner/name@v1%2Fx").value();
  const auto report = scan(*folder, "");
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(report->files.size(), 2U);
  EXPECT_EQ(report->verdict, ScanVerdict::unknown);
  EXPECT_FALSE(folder->lists_all());
}

TEST(RemoteHub, SaysWhichItemIsBroken) {
  const std::string json = R"([{"type":"directory","path":"a"},{"type":"file","path":"b"},{}])";
  const auto files = parse_hub_files(json);
  EXPECT_CODE(files, http_protocol);
  EXPECT_NE(files.error().message.find("item 2 "), std::string::npos) << files.error().message;
}

TEST(RemoteHub, SaysThatALinkIsBroken) {
  ListingHub hub;
  hub.answers = [&](const ServerRequest& request, ServerAnswer& answer) {
    if (request.path.find("/tree/") == std::string::npos) return false;
    answer.status = 200;
    answer.body = "[]";
    answer.set("Link", "<ftp://host/list>; rel=\"next\"");
    return true;
  };
  const auto opened = hub.open();
  EXPECT_CODE(opened, http_protocol);
  EXPECT_NE(opened.error().message.find("the link to the next page: the URL is refused"),
            std::string::npos)
      << opened.error().message;
}

TEST(RemoteHub, RefusesBrokenLists) {
  struct Case {
    std::string page;
    std::string link;
  };
  for (const Case& c : std::vector<Case>{{"{}", ""},
                                         {"[1]", ""},
                                         {"[{\"path\":\"a\"}]", ""},
                                         {"[", ""},
                                         {"[]", "<http://127.0.0.1:1/other>; rel=\"next\""},
                                         {"[]", "<?>; rel=\"next\""}}) {
    ListingHub hub;
    hub.answers = [&](const ServerRequest& request, ServerAnswer& answer) {
      if (request.path.find("/tree/") == std::string::npos) return false;
      answer.status = 200;
      answer.body = c.page;
      if (!c.link.empty()) answer.set("Link", c.link);
      return true;
    };
    EXPECT_CODE(hub.open(), http_protocol);
  }
}

TEST(RemoteHub, HasAsManyFilesAsTheLimitAllows) {
  for (const int files : {100'000, 100'001}) {
    ListingHub hub;
    std::string page = "[";
    for (int i = 0; i < files; ++i)
      page += (i > 0 ? "," : "") + (R"({"type":"file","path":")" + std::to_string(i)) + "\"}";
    hub.list("", page + "]");
    const auto opened = hub.open();
    ASSERT_FALSE(opened);
    EXPECT_EQ(opened.error().code == ErrorCode::limit_exceeded, files > 100'000)
        << opened.error().message;
  }
}

TEST(RemoteHub, HasAnEnd) {
  ListingHub hub;
  int pages = 0;
  hub.answers = [&](const ServerRequest& request, ServerAnswer& answer) {
    if (!request.path.starts_with("/api/models/owner/name/tree/")) return false;
    answer.status = 200;
    answer.body = "[]";
    answer.set("Link",
               "<" + hub.server.url("/api/models/owner/name/tree/" + std::to_string(++pages)) +
                   ">; rel=\"next\"");
    return true;
  };
  EXPECT_ERROR(hub.open(), limit_exceeded);
  EXPECT_EQ(pages, 1000);
}

TEST(RemoteHub, FindsTheNextPage) {
  EXPECT_EQ(remote::next_link("<a>; rel=\"next\""), "a");
  EXPECT_EQ(remote::next_link("<a>; rel=\"prev\", <b>; rel=next"), "b");
  for (const std::string_view none : {"", "<a", "<a>", "a; rel=\"next\"", "<a>; rel=\"last\""})
    EXPECT_EQ(remote::next_link(none), "");
}

}  // namespace
}  // namespace flatbed
