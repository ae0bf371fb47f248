#include "transport.hpp"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "call_run.hpp"
#include "flatbed/version.hpp"
#include "text.hpp"

namespace flatbed {

using remote::Clock;
using remote::error_of;
using remote::text_of;

namespace {

// How soon a wish to cancel is noticed.
constexpr std::chrono::milliseconds kLookAround{50};

template <typename Number>
Result<void> check_between(std::string_view what, Number value, Number least, Number most) {
  if (value >= least && value <= most) return {};
  return error_of(ErrorCode::invalid_argument, "the option ", what, " is out of range: found ",
                  value, ", expected ", least, " to ", most);
}

Result<void> check_options(const RemoteOptions& options) {
  constexpr std::size_t kKiB = 1024;
  constexpr std::int64_t kDayMs = 86'400'000;
  FLATBED_TRY(check_between("max_connections", options.max_connections, 1U, 256U));
  FLATBED_TRY(check_between("retries", options.retries, 0U, 1000U));
  FLATBED_TRY(check_between("range_nbytes", options.range_nbytes, 64 * kKiB, kKiB * kKiB * kKiB));
  FLATBED_TRY(check_between("head_nbytes", options.head_nbytes, 4 * kKiB, 16 * kKiB * kKiB));
  FLATBED_TRY(check_between<std::uint64_t>("whole_nbytes", options.whole_nbytes, 0,
                                           std::uint64_t{4} << 30));
  for (const std::chrono::milliseconds time :
       {options.connect_timeout, options.first_byte_timeout, options.stall_timeout, options.backoff,
        options.longest_wait}) {
    FLATBED_TRY(check_between<std::int64_t>("of a time, in ms,", time.count(), 0, kDayMs));
  }
  return {};
}

}  // namespace

Result<std::shared_ptr<Transport>> Transport::make(RemoteOptions options) {
  FLATBED_TRY(check_options(options));
  if (options.user_agent.empty()) {
    options.user_agent = text_of("flatbed/", FLATBED_VERSION_MAJOR, ".", FLATBED_VERSION_MINOR, ".",
                                 FLATBED_VERSION_PATCH);
  }
  std::shared_ptr<Transport> transport(new (std::nothrow) Transport(std::move(options)));
  if (!transport) return error_of(ErrorCode::resource_exhausted, "out of memory");
  const RemoteOptions& set = transport->options_;
  if (!set.cache_dir.empty()) {
    FLATBED_ASSIGN(transport->cache_, remote::BlockCache::open(set.cache_dir, set.cache_nbytes));
  }
  FLATBED_ASSIGN(
      transport->certificates_,
      remote::find_certificates(set, remote::find_ca_places(remote::ca_places_of_libcurl())));
  FLATBED_ASSIGN(transport->engine_, transport->make_engine());
  return transport;
}

Result<std::unique_ptr<remote::Engine>> Transport::make_engine() const {
  return remote::Engine::make(
      {options_.connect_timeout, options_.first_byte_timeout, options_.stall_timeout, certificates_,
       options_.proxy, options_.http_proxy.value_or(options_.proxy), options_.no_proxy,
       options_.user_agent},
      options_.max_connections);
}

Result<void> Transport::check_process() const {
  const std::lock_guard lock(making_engine_);
  if (engine_->is_of_this_process()) return {};
  FLATBED_ASSIGN(std::unique_ptr<remote::Engine> engine, make_engine());
  engine_ = std::move(engine);
  return {};
}

Result<void> Transport::run(std::span<remote::Call> calls, const ReadProgress& progress) const {
  remote::RangeProgress ranges(calls, progress);
  Result<void> done = run_all(calls, &ranges);
  // Passed on as it is, while other errors name the request.
  if (const Result<void>& went_on = ranges.result(); !went_on) return went_on;
  return done;
}

Result<void> Transport::run_all(std::span<remote::Call> calls,
                                remote::RangeProgress* progress) const {
  FLATBED_TRY(check_process());
  remote::Mailbox mailbox(calls.size());
  std::vector<CallRun> runs;
  runs.reserve(calls.size());
  for (remote::Call& call : calls) runs.emplace_back(*this, call, progress);
  const bool may_cancel =
      std::ranges::none_of(calls, [](const remote::Call& call) { return call.despite_cancel; });
  Result<void> result;
  const auto fail = [&](Result<void> failed) {
    if (result) result = std::move(failed);
    for (const CallRun& run : runs) {
      if (run.running()) run.stop();
    }
  };
  for (;;) {
    const Clock::time_point now = Clock::now();
    Clock::time_point next = now + kLookAround;
    bool waits = false;
    for (std::size_t i = 0; i < runs.size(); ++i) {
      CallRun& run = runs[i];
      if (result && !run.running() && !run.ended() && run.due() <= now) {
        if (Result<void> begun = run.begin(mailbox, i); !begun) fail(std::move(begun));
      }
      waits = waits || run.running() || (result && !run.ended());
      if (result && !run.running() && !run.ended()) next = std::min(next, run.due());
    }
    if (!waits) return result;
    for (const std::size_t number : mailbox.wait_until(next)) {
      if (!result) {
        runs[number].drop();
      } else if (Result<void> taken = runs[number].take_outcome(); !taken) {
        fail(std::move(taken));
      }
    }
    if (result && may_cancel && cancelled()) fail(error_of(ErrorCode::cancelled, "interrupted"));
  }
}

RemoteStats Transport::stats() const noexcept {
  return {counters_.requests.load(), counters_.retries.load(), counters_.redirects.load(),
          counters_.bytes.load(), cache_ ? cache_->loaded_nbytes() : 0};
}

}  // namespace flatbed
