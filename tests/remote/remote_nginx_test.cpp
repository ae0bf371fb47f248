// Remote against nginx: plain, TLS with a CA of the test's own, without ranges, slow, redirecting
// and compressing. Skipped where nginx is not installed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "flatbed/load.hpp"
#include "flatbed/remote.hpp"
#include "flatbed/save.hpp"
#include "flatbed/verify.hpp"
#include "remote/nginx.hpp"
#include "remote/remote_files.hpp"
#include "support/expect_error.hpp"
#include "support/process_memory.hpp"
#include "support/sanitizers.hpp"

namespace flatbed {
namespace {

using test::Nginx;
using test::one_tensor;
using test::patient;
using test::pattern;
using test::read_range;
using test::read_tensor;
using ::testing::HasSubstr;

constexpr std::size_t kNbytes = 3'000'000;

class RemoteNginx : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { nginx_ = std::make_unique<Nginx>(); }
  static void TearDownTestSuite() { nginx_.reset(); }
  void SetUp() override {
    if (!nginx_->missing().empty()) GTEST_SKIP() << nginx_->missing();
    nginx_->serve("a.safetensors", one_tensor("w", pattern(kNbytes)));
  }

  static RemoteOptions trusting() {
    RemoteOptions options = patient();
    options.ca_file = nginx_->ca_file();
    return options;
  }
  static Result<std::string> read_from(std::string_view server,
                                       const RemoteOptions& options = trusting()) {
    FLATBED_ASSIGN(const Checkpoint opened,
                   open_url(nginx_->url(server, "/a.safetensors"), options));
    return read_tensor(opened, "w");
  }

  static std::unique_ptr<Nginx> nginx_;
};

std::unique_ptr<Nginx> RemoteNginx::nginx_;

TEST_F(RemoteNginx, SendsTheRightBytes) {
  for (const std::string_view server : {"plain", "tls", "no_ranges", "redirect", "gzip"}) {
    const auto read = read_from(server);
    ASSERT_TRUE(read) << server << ": " << read.error().message;
    EXPECT_TRUE(*read == pattern(kNbytes)) << server;
  }
}

TEST_F(RemoteNginx, MayBeSlow) {
  const RemoteOptions options = patient();
  nginx_->serve("slow", pattern(600'000));
  const auto source = Remote::make(options).value().open_source(nginx_->url("slow", "/slow"));
  ASSERT_TRUE(source) << source.error().message;
  const auto read = read_range(**source, 0, 600'000);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_TRUE(*read == pattern(600'000));
}

TEST_F(RemoteNginx, IsNotTrustedWithoutItsCa) {
  const auto read = read_from("tls", patient());
  EXPECT_CODE(read, tls_failed);
}

TEST_F(RemoteNginx, IsTrustedIfItsCaIsOneOfTheSystems) {
  RemoteOptions options = patient();
  options.system_ca_file = nginx_->ca_file();
  EXPECT_OK(read_from("tls", options));
  // Its CA and another's, in memory, in this order and in the other.
  options.ca_file = nginx_->other_ca_file();
  EXPECT_OK(read_from("tls", options));
  std::swap(options.system_ca_file, options.ca_file);
  EXPECT_OK(read_from("tls", options));
  options.ca_file.clear();
  EXPECT_CODE(read_from("tls", options), tls_failed);
  options.system_ca_file.clear();
  options.system_ca_dir = nginx_->empty_folder();
  EXPECT_CODE(read_from("tls", options), tls_failed);
}

TEST_F(RemoteNginx, AsAProxyIsVerifiedLikeAServer) {
  const std::string url = "http://model.example/a.safetensors";
  RemoteOptions options = trusting();
  options.proxy = nginx_->url("tls", "");
  EXPECT_OK(open_url(url, options));
  options.system_ca_file = nginx_->other_ca_file();
  EXPECT_OK(open_url(url, options));
  options.ca_file.clear();
  EXPECT_CODE(open_url(url, options), tls_failed);
}

TEST_F(RemoteNginx, IsNotTrustedUnderAnotherName) {
  std::string url = nginx_->url("tls", "/a.safetensors");
  url.replace(url.find("127.0.0.1"), 9, "localhost");
  EXPECT_CODE(open_url(url, trusting()), tls_failed);
}

TEST_F(RemoteNginx, MayNotRedirectFromTls) { EXPECT_CODE(read_from("to_plain"), redirect_refused); }

TEST_F(RemoteNginx, MayNotCompress) { EXPECT_CODE(read_from("forced_gzip"), http_protocol); }

TEST_F(RemoteNginx, NamesAFileThatIsNotThere) {
  const auto opened = open_url(nginx_->url("plain", "/none.safetensors"), patient());
  EXPECT_CODE(opened, file_not_found);
  EXPECT_THAT(opened.error().message, HasSubstr("/none.safetensors': GET of bytes 0-"));
}

TEST_F(RemoteNginx, NamesAChange) {
  nginx_->serve("c", pattern(kNbytes));
  const auto source = Remote::make(patient()).value().open_source(nginx_->url("plain", "/c"));
  ASSERT_TRUE(source);
  ASSERT_TRUE(read_range(**source, 1'000'000, 500'000));
  nginx_->serve("c", pattern(kNbytes + 1, 2));
  EXPECT_CODE(read_range(**source, 1'000'000, 500'000), file_changed);
}

// A sealed file of one tensor.
void serve_sealed(const test::Nginx& nginx, const std::string& name, std::uint64_t nbytes) {
  const test::TempDir dir;
  const std::string data(nbytes, 'x');
  SavePlan plan;
  plan.items.push_back({"w", Dtype::u8, {nbytes}, std::as_bytes(std::span(data))});
  ASSERT_TRUE(save(dir / "large", plan, {.sync = false}));
  std::filesystem::copy_file(dir / "large", nginx.folder() / name);
}

// The whole of the file is in memory, and once.
TEST_F(RemoteNginx, OfAServerWithoutRangesIsVerifiedInLittleMemory) {
#if FLATBED_SANITIZED
  GTEST_SKIP() << "the sanitizers take memory of their own";
#endif
  constexpr std::uint64_t kLarge = 47 << 20;
  serve_sealed(*nginx_, "whole.safetensors", kLarge);
  std::ofstream("/proc/self/clear_refs") << "5";
  const std::uint64_t before = test::memory_nbytes("VmRSS:");
  const auto opened = open_url(nginx_->url("no_ranges", "/whole.safetensors"));
  ASSERT_TRUE(opened) << opened.error().message;
  const auto report = verify(*opened);
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(report->bytes_checked, kLarge);
  EXPECT_LT(test::memory_nbytes("VmHWM:") - before, 64 << 20);
}

TEST_F(RemoteNginx, IsVerifiedInLittleMemory) {
#if FLATBED_SANITIZED
  GTEST_SKIP() << "the sanitizers take memory of their own";
#endif
  constexpr std::uint64_t kLarge = 200 << 20;
  serve_sealed(*nginx_, "large.safetensors", kLarge);
  const auto opened = open_url(nginx_->url("plain", "/large.safetensors"));
  ASSERT_TRUE(opened) << opened.error().message;
  // Begins the peak anew.
  std::ofstream("/proc/self/clear_refs") << "5";
  const std::uint64_t before = test::memory_nbytes("VmRSS:");
  const auto report = verify(*opened);
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_TRUE(report->damaged.empty());
  EXPECT_EQ(report->bytes_checked, kLarge);
  EXPECT_LT(test::memory_nbytes("VmHWM:") - before, 64 << 20);
}

TEST_F(RemoteNginx, ServesALoad) {
  const auto opened = open_url(nginx_->url("tls", "/a.safetensors"), trusting());
  ASSERT_TRUE(opened) << opened.error().message;
  std::string out(kNbytes, '\0');
  LoadPlan plan;
  ASSERT_TRUE(plan.add(*opened, "w", {.data = out.data(), .capacity = out.size()}));
  const auto report = load(plan);
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_TRUE(out == pattern(kNbytes));
  EXPECT_EQ(report->chunks_reread, 0u);
}

}  // namespace
}  // namespace flatbed
