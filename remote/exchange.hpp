// Exchange: one HTTP request and its answer, over a handle of libcurl. Owns the handle and its
// lists; borrows the bytes that it sends and those that it fills until it has ended. While the
// engine has it, only the engine's thread uses it.
#pragma once

#include <curl/curl.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "certificates.hpp"
#include "http.hpp"

namespace flatbed::remote {

using Clock = std::chrono::steady_clock;

// The same for all exchanges of an engine. A timeout of 0 never passes.
struct ExchangeLimits {
  std::chrono::milliseconds connect{};
  std::chrono::milliseconds first_byte{};
  std::chrono::milliseconds stall{};
  Certificates certificates;
  std::string proxy;       // of https:// URLs
  std::string http_proxy;  // of http:// URLs
  std::string no_proxy;
  std::string user_agent;
};

struct ExchangeRequest {
  Method method = Method::get;
  std::string url;
  std::vector<std::string> headers;  // "Name: value"
  std::span<const std::byte> body;   // of PUT and POST; borrowed
  std::string sigv4;                 // as CURLOPT_AWS_SIGV4; empty: not signed
  std::string user_password;         // for sigv4: "key:secret"
  // Says where the body goes, by the answer's head. Called on the engine's thread, which it must
  // not hold up. An error ends the exchange.
  std::function<Result<Placement>(const AnswerHead&)> place;
  // Is told how many bytes of the body are in the parts of its place: about each 256 KiB, and when
  // they are full. Called like `place`. Empty: nobody wants to know. An error ends the exchange.
  std::function<Result<void>(std::uint64_t nbytes)> placed;
};

// How an exchange ended.
struct Outcome {
  AnswerHead head;             // status 0: there was no answer
  std::string body;            // as far as it was not placed elsewhere
  std::uint64_t received = 0;  // bytes of the body, cut ones included
  std::optional<Error> error;  // none: the answer is complete
  bool transient = false;      // the error may be gone the next time
};

class Exchange {
 public:
  explicit Exchange(ExchangeRequest request) : request_(std::move(request)) {}
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  // Makes the handle. False: the exchange has ended (resource_exhausted, tls_failed).
  [[nodiscard]] bool prepare(const ExchangeLimits& limits);
  [[nodiscard]] CURL* handle() const noexcept { return handle_.get(); }

  // When it counts as timed out if nothing happens until then.
  [[nodiscard]] Clock::time_point deadline() const noexcept;
  void begin() noexcept { begun_ = last_activity_ = Clock::now(); }

  // Each ends it: what libcurl says, a timeout, the caller's wish, an error before it began.
  void finish(CURLcode code);
  void time_out();
  void cancel();
  void fail(Error error, bool transient);

  [[nodiscard]] const Outcome& outcome() const noexcept { return outcome_; }
  [[nodiscard]] Outcome take_outcome() noexcept { return std::move(outcome_); }

 private:
  struct CleanUpEasy {
    void operator()(CURL* handle) const noexcept { curl_easy_cleanup(handle); }
  };
  struct FreeList {
    void operator()(curl_slist* list) const noexcept { curl_slist_free_all(list); }
  };

  static std::size_t on_header(char* data, std::size_t size, std::size_t count, void* self);
  static std::size_t on_body(char* data, std::size_t size, std::size_t count, void* self);
  static std::size_t on_send(char* data, std::size_t size, std::size_t count, void* self);
  static int on_seek(void* self, curl_off_t offset, int origin);

  [[nodiscard]] Result<void> make_handle(const ExchangeLimits& limits);
  [[nodiscard]] Result<void> set_basics(const ExchangeLimits& limits);
  // The options of libcurl for the certificates of servers, or of an HTTPS proxy.
  struct CertificateOptions {
    CURLoption file;
    CURLoption folder;
    CURLoption blob;
  };
  [[nodiscard]] const std::string& proxy_of(const ExchangeLimits& limits) const;
  [[nodiscard]] Result<void> set_proxy(const ExchangeLimits& limits);
  [[nodiscard]] Result<void> set_certificates(const ExchangeLimits& limits);
  [[nodiscard]] Result<void> set_certificates(const Certificates& certificates,
                                              const CertificateOptions& options);
  [[nodiscard]] Result<void> set_headers();
  void set_method();
  void count_moved(std::size_t nbytes);
  template <typename Take>
  [[nodiscard]] bool guarded(Take take) noexcept;
  struct Ending {
    Error error;
    bool transient = false;
  };
  template <typename Say>
  void end_with(Say say) noexcept;
  [[nodiscard]] bool take_header(std::string_view line);
  [[nodiscard]] bool take_head();
  [[nodiscard]] bool take_body(std::span<const std::byte> bytes);
  void reserve_body();
  [[nodiscard]] bool place_body(std::span<const std::byte> bytes);
  [[nodiscard]] bool tell_placed();

  ExchangeRequest request_;
  std::unique_ptr<CURL, CleanUpEasy> handle_;
  std::unique_ptr<curl_slist, FreeList> header_list_;
  ExchangeLimits limits_;
  Clock::time_point begun_{};
  Clock::time_point last_activity_{};
  std::size_t sent_ = 0;
  std::size_t moved_ = 0;  // bytes of bodies since last_activity_
  std::size_t header_nbytes_ = 0;
  bool head_done_ = false;
  bool enough_ = false;  // the rest of the body is not wanted
  Placement placement_;
  std::size_t part_ = 0;    // of placement_.parts
  std::size_t used_ = 0;    // bytes of it
  std::uint64_t told_ = 0;  // to request_.placed
  Outcome outcome_;
};

}  // namespace flatbed::remote
