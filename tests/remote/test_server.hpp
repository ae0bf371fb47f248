// TestServer: an HTTP server on a loopback port, in the test's own process, which serves files from
// memory and lies as the test wants. Owns its threads, one for each connection, and joins them in
// the destructor. Thread-safe; `change` is called on the connections' threads.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace flatbed::test {

struct ServedFile {
  std::uint64_t nbytes = 0;
  std::function<std::string(std::uint64_t offset, std::size_t nbytes)> read;
  std::string etag = "\"one\"";
  std::string last_modified = {};
};

struct ServerRequest {
  std::string method;
  std::string path;                            // as it was sent, with its query
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;
  std::uint64_t number = 0;  // of the server's requests, from 0
};

struct ServerAnswer {
  int status = 200;
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
  std::optional<std::string> content_length;  // another than the body's
  bool chunked = false;
  std::size_t cut_after = std::string::npos;    // bytes of the body, then the connection is closed
  std::size_t stall_after = std::string::npos;  // bytes of the body, then nothing for a while
  std::chrono::milliseconds stall{3000};
  std::chrono::milliseconds drip{};   // between bytes of the body
  std::chrono::milliseconds delay{};  // before the answer
  std::optional<std::string> raw;     // is sent instead of all this

  void set(std::string_view name, std::string value);
  void remove(std::string_view name);
  [[nodiscard]] std::string header(std::string_view name) const;
};

class TestServer {
 public:
  TestServer();
  TestServer(const TestServer&) = delete;
  TestServer& operator=(const TestServer&) = delete;
  ~TestServer();

  // Ends all answers, and returns when none is under way. The destructor does it too: for what
  // answers use and is destroyed sooner. Thread-safe.
  void stop();

  void serve(const std::string& path, std::string bytes, std::string etag = "\"one\"");
  void serve(const std::string& path, ServedFile file);
  void remove(const std::string& path);

  // What changes answers before they are sent. It may be set at any time: answers that are under
  // way keep the one that they began with, so it owns what it uses.
  class Change {
   public:
    using Function = std::function<void(const ServerRequest&, ServerAnswer&)>;
    Change& operator=(Function function) {
      const std::lock_guard lock(mutex_);
      function_ = std::make_shared<const Function>(std::move(function));
      return *this;
    }
    void operator()(const ServerRequest& request, ServerAnswer& answer) const {
      std::shared_ptr<const Function> function;
      {
        const std::lock_guard lock(mutex_);
        function = function_;
      }
      if (function) (*function)(request, answer);
    }

   private:
    mutable std::mutex mutex_;
    std::shared_ptr<const Function> function_;
  };
  Change change;
  // Before the first request:
  std::chrono::milliseconds delay{};  // of every answer
  bool ranges = true;

  [[nodiscard]] std::string url(std::string_view path) const;
  [[nodiscard]] std::uint16_t port() const noexcept { return port_; }
  [[nodiscard]] std::uint64_t requests() const noexcept { return requests_; }
  // The longest time between two bytes of answers that drip, which a busy machine stretches.
  [[nodiscard]] std::chrono::milliseconds longest_gap() const noexcept { return longest_gap_; }
  [[nodiscard]] std::vector<ServerRequest> log() const;

 private:
  void accept_all();
  void serve_connection(int socket);
  [[nodiscard]] bool answer_one(int socket, std::string& input);
  [[nodiscard]] ServerAnswer usual_answer(const ServerRequest& request) const;
  [[nodiscard]] bool send_answer(int socket, const ServerRequest& request,
                                 const ServerAnswer& answer);
  [[nodiscard]] bool send_all(int socket, std::string_view bytes) const;
  // False: the server closes.
  bool pause(std::chrono::milliseconds time);
  [[nodiscard]] bool send_dripping(int socket, std::string_view body,
                                   std::chrono::milliseconds time);
  void count_gap(std::chrono::steady_clock::duration gap) noexcept;

  int listener_ = -1;
  std::uint16_t port_ = 0;
  std::atomic<std::uint64_t> requests_ = 0;
  std::atomic<std::chrono::milliseconds> longest_gap_{};
  std::mutex stopping_;
  mutable std::mutex mutex_;
  std::condition_variable closing_changed_;
  bool closing_ = false;
  std::map<std::string, ServedFile> files_;
  std::vector<ServerRequest> log_;
  std::vector<int> sockets_;
  std::vector<std::thread> connections_;
  std::thread accepting_;
};

}  // namespace flatbed::test
