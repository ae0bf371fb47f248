// CallRun: one Call on its way through attempts, retries and redirects. Borrows the call and the
// transport. Used by the thread that runs the call; place() and the progress by the engine's.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "exchange.hpp"
#include "range_progress.hpp"
#include "transport.hpp"

namespace flatbed {

class CallRun {
 public:
  // `progress`, which is null or borrowed, is told of the bytes of the call's range.
  CallRun(const Transport& transport, remote::Call& call, remote::RangeProgress* progress)
      : transport_(transport), call_(call), progress_(progress) {}

  [[nodiscard]] bool running() const noexcept { return exchange_ != nullptr; }
  [[nodiscard]] bool ended() const noexcept { return ended_; }
  [[nodiscard]] remote::Clock::time_point due() const noexcept { return due_; }

  // Begins the next attempt. Errors: those of the credentials.
  [[nodiscard]] Result<void> begin(remote::Mailbox& mailbox, std::size_t number);
  void stop() const;
  // After an attempt has ended: what follows from it. Afterwards the call has ended, or is due
  // again. Errors: the call's.
  [[nodiscard]] Result<void> take_outcome();
  // The same, where the outcome does not matter any more.
  void drop() noexcept { exchange_.reset(); }

 private:
  [[nodiscard]] Result<void> set_credentials(remote::ExchangeRequest& request);
  [[nodiscard]] Result<remote::Placement> place(const remote::AnswerHead& head) const;
  [[nodiscard]] Result<remote::Placement> place_range(const remote::AnswerHead& head) const;
  [[nodiscard]] Result<void> judge(remote::Outcome outcome);
  [[nodiscard]] Result<void> judge_success(remote::Outcome outcome);
  [[nodiscard]] Result<void> succeed(remote::Outcome outcome);
  void keep(const remote::Outcome& outcome) noexcept;
  [[nodiscard]] Result<void> follow(const remote::Outcome& outcome);
  [[nodiscard]] Result<bool> refresh_credentials();
  [[nodiscard]] Result<void> retry(const remote::Outcome& outcome, Error error);
  [[nodiscard]] Error status_error(const remote::AnswerHead& head) const;
  [[nodiscard]] Error described(Error error) const;
  [[nodiscard]] std::uint64_t wanted_nbytes() const noexcept;
  [[nodiscard]] bool at_home() const noexcept;
  // The version as a header of the next attempt; empty where there is none.
  [[nodiscard]] std::string condition() const;
  [[nodiscard]] CredentialsQuery query(bool refused) const;

  const Transport& transport_;
  remote::Call& call_;
  remote::RangeProgress* progress_;
  remote::Url url_;  // where the next attempt goes; empty: the call's
  std::unique_ptr<remote::Exchange> exchange_;
  std::uint64_t id_ = 0;
  RemoteCredentials credentials_;  // of the last attempt
  bool refreshed_ = false;
  bool ended_ = false;
  unsigned failures_ = 0;
  std::uint64_t placed_before_ = 0;  // of the range, by earlier attempts
  remote::Clock::time_point due_{};
};

}  // namespace flatbed
