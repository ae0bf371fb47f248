// poll(): hooks under which whoever waits sleeps and asks again. What sleeping is, the test says: a
// virtual clock, a step of the fake runtime. Devices and pools wake nobody.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <utility>

#include "load/load_hooks.hpp"

namespace flatbed::test {

inline constexpr std::uint64_t kShortestPause = 4'000;
inline constexpr std::uint64_t kLongestPause = 128'000;

// Needs `hooks.now_ns`.
inline void poll(LoadHooks& hooks, std::function<void(std::uint64_t)> sleep_ns) {
  hooks.wait = [now_ns = hooks.now_ns, sleep_ns](Device& device, Ticket ticket,
                                                 std::chrono::nanoseconds most) -> Result<bool> {
    const std::uint64_t begin = now_ns();
    const auto limit = static_cast<std::uint64_t>(std::max(most, most.zero()).count());
    for (std::uint64_t pause = kShortestPause;; pause = std::min(2 * pause, kLongestPause)) {
      FLATBED_ASSIGN(const bool is_done, device.done(ticket));
      if (is_done || now_ns() - begin >= limit) return is_done;
      sleep_ns(pause);
    }
  };
  hooks.wait_for_slot = [sleep_ns = std::move(sleep_ns)](std::chrono::nanoseconds) {
    sleep_ns(kShortestPause);
  };
}

}  // namespace flatbed::test
