// Remote: a server that cuts, stalls, flips, truncates, repeats, reorders and lies, by seeds. No
// wrong byte arrives, nothing hangs, and every error is named. FLATBED_REMOTE_FAULTS sets the
// number of faults; the default is a sample.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <string_view>

#include "flatbed/load.hpp"
#include "flatbed/remote.hpp"
#include "flatbed/save.hpp"
#include "flatbed/verify.hpp"
#include "remote/remote_files.hpp"
#include "remote/test_server.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::pattern;
using test::ServerAnswer;
using test::ServerRequest;
using test::TestServer;

constexpr std::size_t kTensorNbytes = 300'000;
constexpr int kTensors = 3;

enum class Fault {
  cut,
  stall,
  flip,
  truncate,
  repeat,
  reorder,
  other_etag,
  no_etag,
  status,
  range,
  total,
  length,
  encoding,
  chunked,
  garbage,
  late,
  count
};

// Damages answers. Thread-safe.
class Faults {
 public:
  explicit Faults(std::uint64_t seed) : random_(seed) {}

  void damage(ServerAnswer& answer) {
    const std::lock_guard lock(mutex_);
    if (below(100) >= 15) return;
    const auto fault = static_cast<Fault>(below(static_cast<std::uint64_t>(Fault::count)));
    if (fault == Fault::stall && below(4) != 0) return;  // they take long
    ++count;
    apply(fault, answer);
  }

  std::atomic<std::uint64_t> count = 0;

 private:
  std::uint64_t below(std::uint64_t limit) { return random_() % limit; }

  void apply(Fault fault, ServerAnswer& answer) {
    std::string& body = answer.body;
    const std::size_t at = body.empty() ? 0 : static_cast<std::size_t>(below(body.size()));
    constexpr int kStatuses[] = {200, 204, 206, 301, 302, 304, 400,
                                 404, 408, 412, 416, 429, 500, 503};
    switch (fault) {
      case Fault::cut:
        answer.cut_after = at;
        return;
      case Fault::stall:
        answer.stall_after = at;
        answer.stall = std::chrono::milliseconds(120);
        return;
      case Fault::flip:
        if (!body.empty()) body[at] = static_cast<char>(body[at] ^ (1 << below(8)));
        return;
      case Fault::truncate:
        body.resize(at);
        return;
      case Fault::repeat:
        body.insert(at, body.substr(at, 100));
        if (below(2) == 0) body.resize(body.size() - std::min<std::size_t>(100, body.size() - at));
        return;
      case Fault::reorder:
        std::rotate(body.begin(), body.begin() + static_cast<std::ptrdiff_t>(at), body.end());
        return;
      case Fault::other_etag:
        answer.set("ETag", below(2) == 0 ? "\"two\"" : "W/\"one\"");
        return;
      case Fault::no_etag:
        answer.remove("ETag");
        return;
      case Fault::status:
        answer.status = kStatuses[below(std::size(kStatuses))];
        if (answer.status / 100 == 3) answer.set("Location", "/elsewhere");
        return;
      case Fault::range:
        answer.set("Content-Range", "bytes " + std::to_string(below(2000)) + "-" +
                                        std::to_string(below(100'000)) + "/900000");
        return;
      case Fault::total:
        answer.set("Content-Range", answer.header("Content-Range") + "0");
        return;
      case Fault::length:
        answer.content_length = std::to_string(below(100'000));
        return;
      case Fault::encoding:
        answer.set("Content-Encoding", "gzip");
        return;
      case Fault::chunked:
        answer.chunked = true;
        return;
      case Fault::garbage:
        answer.raw = pattern(static_cast<std::size_t>(below(300)), random_());
        return;
      default:
        answer.delay = std::chrono::milliseconds(below(4) == 0 ? 120 : 10);
    }
  }

  std::mutex mutex_;
  std::mt19937_64 random_;
};

std::string sealed_file() {
  const test::TempDir dir;
  std::vector<std::string> data;
  for (int i = 0; i < kTensors; ++i)
    data.push_back(pattern(kTensorNbytes, static_cast<std::uint64_t>(i)));
  SavePlan plan;
  for (int i = 0; i < kTensors; ++i) {
    plan.items.push_back({"w" + std::to_string(i),
                          Dtype::u8,
                          {kTensorNbytes},
                          std::as_bytes(std::span(data[static_cast<std::size_t>(i)]))});
  }
  static_cast<void>(save(dir / "a", plan, {.sync = false}).value());
  return test::read_file(dir / "a");
}

// What a run of many cases counts.
struct Tally {
  int right = 0;
  int wrong = 0;
  std::uint64_t rereads = 0;
  std::map<std::string, int> errors;  // by name
  std::chrono::milliseconds longest{};

  void add(const Error& error) { ++errors[std::string(name(error.code))]; }
};

RemoteOptions hasty() {
  RemoteOptions options;
  options.backoff = std::chrono::milliseconds(1);
  options.retries = 6;
  options.first_byte_timeout = std::chrono::milliseconds(60);
  options.stall_timeout = std::chrono::milliseconds(60);
  options.longest_wait = std::chrono::milliseconds(1000);
  options.range_nbytes = 64 << 10;
  options.head_nbytes = 4 << 10;
  return options;
}

Result<void> read_by_tensor(const Checkpoint& checkpoint, Tally& tally) {
  for (int i = 0; i < kTensors; ++i) {
    FLATBED_ASSIGN(const std::string read, test::read_tensor(checkpoint, "w" + std::to_string(i)));
    tally.wrong += read != pattern(kTensorNbytes, static_cast<std::uint64_t>(i)) ? 1 : 0;
  }
  return {};
}

Result<void> load_all_tensors(const Checkpoint& checkpoint, Tally& tally) {
  std::vector<std::string> out(kTensors, std::string(kTensorNbytes, '\0'));
  LoadPlan plan;
  for (std::size_t i = 0; i < out.size(); ++i) {
    FLATBED_TRY(plan.add(checkpoint, "w" + std::to_string(i),
                         {.data = out[i].data(), .capacity = out[i].size()}));
  }
  FLATBED_ASSIGN(const LoadReport report, load(plan));
  tally.rereads += report.chunks_reread;
  for (std::size_t i = 0; i < out.size(); ++i)
    tally.wrong += out[i] != pattern(kTensorNbytes, i) ? 1 : 0;
  return {};
}

// Damage that stays is a result, and not an error.
Result<void> verify_all(const Checkpoint& checkpoint, Tally& tally) {
  FLATBED_ASSIGN(const VerifyReport report, verify(checkpoint));
  tally.rereads += report.chunks_reread;
  if (!report.damaged.empty()) return Error{ErrorCode::chunk_corrupt, "damaged"};
  return {};
}

// Two with ranges of another size: what is loaded in large ones is hashed as it arrives.
struct Remotes {
  Remote small;
  Remote large;
};

Remotes remotes() {
  RemoteOptions large = hasty();
  large.range_nbytes = 2 << 20;
  return {Remote::make(hasty()).value(), Remote::make(std::move(large)).value()};
}

Result<void> run_case(const Remotes& remotes, const std::string& url, std::uint64_t seed,
                      Tally& tally) {
  OpenOptions options;
  options.check_seal = CheckSeal::required;
  const Remote& remote = seed % 2 == 0 ? remotes.small : remotes.large;
  FLATBED_ASSIGN(const Checkpoint checkpoint, remote.open(url, options));
  if (seed % 3 == 0) return read_by_tensor(checkpoint, tally);
  return seed % 3 == 1 ? load_all_tensors(checkpoint, tally) : verify_all(checkpoint, tally);
}

TEST(RemoteFaults, NeverGiveWrongBytesNorHang) {
  const char* const wish = std::getenv("FLATBED_REMOTE_FAULTS");
  const std::uint64_t wanted = wish != nullptr ? std::strtoull(wish, nullptr, 10) : 600;
  const std::string file = sealed_file();
  Faults faults(20'260);
  TestServer server;
  server.serve("/a.safetensors", file);
  server.change = [&](const ServerRequest&, ServerAnswer& answer) { faults.damage(answer); };
  const Remotes with = remotes();
  Tally tally;
  for (std::uint64_t seed = 0; faults.count < wanted; ++seed) {
    const auto begin = std::chrono::steady_clock::now();
    const Result<void> done = run_case(with, server.url("/a.safetensors"), seed, tally);
    tally.longest = std::max(tally.longest, std::chrono::duration_cast<std::chrono::milliseconds>(
                                                std::chrono::steady_clock::now() - begin));
    if (done) {
      ++tally.right;
    } else {
      tally.add(done.error());
      EXPECT_FALSE(done.error().message.empty());
    }
  }
  EXPECT_EQ(tally.wrong, 0);
  EXPECT_GT(tally.right, 0);
  EXPECT_GT(tally.rereads, 0);
  EXPECT_LT(tally.longest, std::chrono::minutes(2));
  EXPECT_FALSE(tally.errors.contains("internal_error"));
  std::string text;
  for (const auto& [code, number] : tally.errors) text += " " + code + " " + std::to_string(number);
  std::printf("%llu faults: %d right, %d wrong, %llu rereads, longest %lld ms; errors:%s\n",
              static_cast<unsigned long long>(faults.count), tally.right, tally.wrong,
              static_cast<unsigned long long>(tally.rereads),
              static_cast<long long>(tally.longest.count()), text.c_str());
}

}  // namespace
}  // namespace flatbed
