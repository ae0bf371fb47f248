#include "interrupt.hpp"

#include <array>
#include <csignal>

namespace flatbed::tool {
namespace {

std::atomic<bool> g_interrupted{false};
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler may set it");

std::atomic<int> g_signal{0};
static_assert(std::atomic<int>::is_always_lock_free, "a signal handler may set it");

constexpr std::array kSignals{SIGINT, SIGTERM, SIGHUP};

// Only calls what may be called in a handler. The next signal meets the default action.
extern "C" void on_interrupt(int number) {
  g_signal.store(number);
  g_interrupted.store(true);
  for (const int signal : kSignals) {
    struct sigaction action = {};
    if (sigaction(signal, nullptr, &action) != 0 || action.sa_handler != on_interrupt) continue;
    action = {};
    action.sa_handler = SIG_DFL;
    sigemptyset(&action.sa_mask);
    sigaction(signal, &action, nullptr);
  }
}

}  // namespace

void catch_interrupts() {
  for (const int signal : kSignals) {
    struct sigaction action = {};
    // nohup and background jobs ignore some of these on purpose.
    if (sigaction(signal, nullptr, &action) != 0 || action.sa_handler == SIG_IGN) continue;
    action = {};
    action.sa_handler = on_interrupt;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    sigaction(signal, &action, nullptr);
  }
}

const std::atomic<bool>& interrupted() { return g_interrupted; }

void die_if_interrupted() {
  const int number = g_signal.load();
  if (number != 0) std::raise(number);
}

void ignore_write_signals() {
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
}

}  // namespace flatbed::tool
