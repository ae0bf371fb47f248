// Remote: a server that cuts, stalls, flips, truncates, repeats, reorders and lies, by seeds. No
// wrong byte arrives, nothing hangs (the time limit of tests would notice), and every error is
// named. FLATBED_REMOTE_FAULTS sets the number of faults; the default is a sample.
// FLATBED_REMOTE_FAULTS_SEED sets the seed.
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
#include "flatbed/save_plan.hpp"
#include "flatbed/verify.hpp"
#include "remote/remote_files.hpp"
#include "remote/test_server.hpp"
#include "support/temp_dir.hpp"
#include "support/zip_builder.hpp"

namespace flatbed {
namespace {

using test::pattern;
using test::ServerAnswer;
using test::ServerRequest;
using test::TestServer;

constexpr std::size_t kTensorNbytes = 300'000;
constexpr int kTensors = 3;
// Of the client. More than the machine takes for anything else, and three times that is a stall.
constexpr std::chrono::milliseconds kPatience{300};

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
        answer.stall = 3 * kPatience;
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
        answer.delay = below(4) == 0 ? 3 * kPatience : std::chrono::milliseconds(10);
    }
  }

  std::mutex mutex_;
  std::mt19937_64 random_;
};

// Of a zip without a seal, the first tensor of which is deflated.
std::string torch_file() {
  using namespace test::pickle;  // NOLINT: the assembler's words are the subject here
  std::vector<std::string> members;
  std::vector<test::ZipItem> items{{}, {.name = "m/version", .data = "3\n"}};
  constexpr auto kCount = static_cast<std::int64_t>(kTensorNbytes);
  for (int i = 0; i < kTensors; ++i) {
    const std::string key = std::to_string(i);
    const Storage bytes{
        .type = global("torch", "ByteStorage"), .key = text(key), .count = integer(kCount)};
    members.push_back(text("w" + key));
    members.push_back(
        tensor({.storage = storage(bytes), .sizes = counts({kCount}), .strides = counts({1})}));
    const std::string data = pattern(kTensorNbytes, static_cast<std::uint64_t>(i));
    items.push_back(i == 0 ? test::deflated_item("m/data/" + key, data)
                           : test::ZipItem{.name = "m/data/" + key, .data = data});
  }
  items[0] = {.name = "m/data.pkl", .data = finish(dict(members))};
  return test::build_zip(items);
}

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
  options.first_byte_timeout = kPatience;
  options.stall_timeout = kPatience;
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

// Into memory. What was written has the tensors of the source, or it is an error.
Result<void> convert_all(const Checkpoint& checkpoint, Tally& tally) {
  FLATBED_ASSIGN(const SavePlan plan, make_plan(checkpoint));
  std::string out;
  const AllocateFile allocate = [&out](std::uint64_t nbytes) -> Result<std::span<std::byte>> {
    out.resize(nbytes);
    return std::as_writable_bytes(std::span(out));
  };
  FLATBED_ASSIGN(const SaveReport report, save_memory(plan, allocate));
  tally.rereads += report.chunks_reread;
  const Result<Checkpoint> copy =
      Checkpoint::open_memory(std::as_bytes(std::span(out)), "copy", {CheckSeal::required});
  tally.wrong += !copy || !read_by_tensor(*copy, tally) ? 1 : 0;
  return {};
}

// Of a PyTorch file the records are compared with their CRCs.
Result<void> run_torch_case(const Remote& remote, const std::string& url, std::uint64_t seed,
                            Tally& tally) {
  FLATBED_ASSIGN(const Checkpoint checkpoint, remote.open(url));
  return seed % 2 == 0 ? read_by_tensor(checkpoint, tally) : convert_all(checkpoint, tally);
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
  const char* const seed_text = std::getenv("FLATBED_REMOTE_FAULTS_SEED");
  Faults faults(seed_text != nullptr ? std::strtoull(seed_text, nullptr, 10) : 20'260);
  TestServer server;
  server.serve("/a.safetensors", sealed_file());
  server.serve("/a.pth", torch_file());
  server.change = [&](const ServerRequest&, ServerAnswer& answer) { faults.damage(answer); };
  const Remotes with = remotes();
  Tally tally;
  for (std::uint64_t seed = 0; faults.count < wanted; ++seed) {
    const auto begin = std::chrono::steady_clock::now();
    const Result<void> done = seed % 5 < 3
                                  ? run_case(with, server.url("/a.safetensors"), seed, tally)
                                  : run_torch_case(with.small, server.url("/a.pth"), seed, tally);
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
