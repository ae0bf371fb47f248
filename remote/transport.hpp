// Transport: requests that may be repeated, redirected and given credentials; several at once. Owns
// the engine. Thread-safe; sources, folders and the Remote share it.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "block_cache.hpp"
#include "certificates.hpp"
#include "engine.hpp"
#include "flatbed/byte_source.hpp"
#include "flatbed/remote.hpp"
#include "http.hpp"
#include "url.hpp"

namespace flatbed {

namespace remote {

// The bytes that a GET is for, and where they go.
struct WantedRange {
  std::uint64_t offset = 0;
  std::vector<std::span<std::byte>> parts;  // borrowed
  // The size of the file. nullopt: it is not known, and the file may end inside the range.
  std::optional<std::uint64_t> file_nbytes;
};

// A request, and once Transport::run() has returned, its answer.
struct Call {
  // Whoever makes a call says who gets credentials: a server may have named its URL.
  explicit Call(std::string home_origin) : home(std::move(home_origin)) {}

  Method method = Method::get;
  Url url;
  std::vector<std::string> headers;  // "Name: value"; sent also after redirects
  std::span<const std::byte> body;   // of PUT and POST; borrowed
  std::optional<WantedRange> range;
  // Of an answer that is kept as a text. Of one to a range it is the whole file, from a server that
  // knows no ranges: 0 refuses it.
  std::size_t body_limit = std::size_t{1} << 20;
  Version version = {};  // answers of others are file_changed
  // The only origin that is sent the version as a condition: an ETag is its server's, and one that
  // redirects to it may have another. Empty: all.
  std::string version_origin = {};
  std::vector<int> accept;  // statuses besides 2xx that are an answer and no error
  std::string home;         // the only origin that gets credentials
  // For s3://: the provider is asked for credentials of this name instead of the origin's, and the
  // request is signed, as CURLOPT_AWS_SIGV4 says.
  std::string credentials_name = {};
  std::string sigv4 = {};
  bool despite_cancel = false;   // is sent even if the caller has interrupted all else
  unsigned most_retries = 1000;  // fewer than the options say

  AnswerHead head = {};
  std::string text = {};                   // of the body, if it was not placed in `range`
  std::uint64_t placed = 0;                // bytes in `range`
  Url final_url = {};                      // after redirects
  std::vector<AnswerHead> redirects = {};  // the answers that led there
};

class RangeProgress;

}  // namespace remote

class Transport {
 public:
  // Errors: those of Remote::make().
  [[nodiscard]] static Result<std::shared_ptr<Transport>> make(RemoteOptions options);

  // Sends all calls at once and returns when all have ended. Of several errors it returns that of
  // the call that failed first, after the others were stopped. Messages do not contain the URL.
  [[nodiscard]] Result<void> run(std::span<remote::Call> calls) const {
    return run_all(calls, nullptr);
  }

  // The same for calls to ranges that follow each other, of a file of known size. `progress` is
  // called on the engine's thread, as ByteSource::read_with_progress() says; for all ranges.
  [[nodiscard]] Result<void> run(std::span<remote::Call> calls, const ReadProgress& progress) const;

  [[nodiscard]] const RemoteOptions& options() const noexcept { return options_; }
  [[nodiscard]] RemoteStats stats() const noexcept;

  // Null: there is none.
  [[nodiscard]] remote::BlockCache* cache() const noexcept { return cache_.get(); }

 private:
  friend class CallRun;
  struct Counters {
    std::atomic<std::uint64_t> requests = 0;
    std::atomic<std::uint64_t> retries = 0;
    std::atomic<std::uint64_t> redirects = 0;
    std::atomic<std::uint64_t> bytes = 0;
  };

  explicit Transport(RemoteOptions options) : options_(std::move(options)) {}
  [[nodiscard]] Result<std::unique_ptr<remote::Engine>> make_engine() const;
  [[nodiscard]] Result<void> run_all(std::span<remote::Call> calls,
                                     remote::RangeProgress* progress) const;
  // A child of fork() gets an engine of its own.
  [[nodiscard]] Result<void> check_process() const;
  [[nodiscard]] bool cancelled() const noexcept {
    return options_.cancel != nullptr && options_.cancel->load(std::memory_order_relaxed);
  }

  RemoteOptions options_;
  remote::Certificates certificates_;
  mutable std::mutex making_engine_;
  mutable std::unique_ptr<remote::Engine> engine_;
  std::unique_ptr<remote::BlockCache> cache_;
  mutable Counters counters_;
};

}  // namespace flatbed
