// Engine: one thread that drives all exchanges over one multi handle of libcurl, which keeps the
// connections. Owns both; the destructor ends what is under way and joins the thread. Thread-safe.
// Where the thread needs memory that there is not, the exchange ends with resource_exhausted.
#pragma once

#include <pthread.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "exchange.hpp"

namespace flatbed::remote {

// Where exchanges are put that have ended, at most `count`, numbered from 0 on. To put one there
// needs no memory. Thread-safe. Must outlive the exchanges that were started with it.
class Mailbox {
 public:
  explicit Mailbox(std::size_t count) { numbers_.reserve(count); }

  // Waits until something has ended or the time has come. Returns the numbers that start() got.
  [[nodiscard]] std::vector<std::size_t> wait_until(Clock::time_point time);

 private:
  friend class Engine;
  void put(std::size_t number);

  std::mutex mutex_;
  std::condition_variable ended_;
  std::vector<std::size_t> numbers_;
};

class Engine {
 public:
  // Errors: resource_exhausted, tls_failed (libcurl without TLS).
  [[nodiscard]] static Result<std::unique_ptr<Engine>> make(ExchangeLimits limits,
                                                            unsigned max_connections);
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;
  ~Engine();

  // False in a child of fork(), where it has no thread: it can do nothing there but be destroyed.
  [[nodiscard]] bool is_of_this_process() const;

  // Begins the exchange, which is borrowed until `number` is in the mailbox. The result stops it.
  [[nodiscard]] std::uint64_t start(Exchange& exchange, Mailbox& mailbox, std::size_t number);
  // Ends an exchange as soon as possible. It is in the mailbox then, as always.
  void stop(std::uint64_t id);

 private:
  struct Active {
    std::uint64_t id = 0;
    Exchange* exchange = nullptr;
    Mailbox* mailbox = nullptr;
    std::size_t number = 0;
  };
  struct CleanUpMulti {
    void operator()(CURLM* multi) const noexcept { curl_multi_cleanup(multi); }
  };

  Engine(ExchangeLimits limits, unsigned max_connections);
  [[nodiscard]] Result<void> start_thread();
  static void* run(void* self) noexcept;

  void drive();
  [[nodiscard]] bool take_orders();
  [[nodiscard]] std::optional<Active> next_to_begin(std::span<const std::uint64_t> stops,
                                                    bool closing);
  void begin(const Active& active);
  void stop_now(std::uint64_t id);
  void collect_finished();
  void expire();
  void end(std::size_t index);
  [[nodiscard]] int wait_ms();

  const ExchangeLimits limits_;
  const unsigned max_connections_;
  const pid_t process_;
  std::unique_ptr<CURLM, CleanUpMulti> multi_;
  pthread_t thread_ = {};
  bool started_ = false;

  std::mutex mutex_;
  std::deque<Active> waiting_;        // guarded
  std::vector<std::uint64_t> stops_;  // guarded
  std::uint64_t next_id_ = 1;         // guarded
  bool closing_ = false;              // guarded

  std::vector<Active> active_;  // the thread's, as is the next; at most max_connections_
  bool freed_ = false;          // others may begin
};

}  // namespace flatbed::remote
