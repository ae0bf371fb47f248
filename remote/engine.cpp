#include "engine.hpp"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include "text.hpp"

namespace flatbed::remote {

namespace {

constexpr int kLongestWaitMs = 1000;
constexpr long kKeptConnections = 64;

// libcurl has one state for the process, which is made once and stays: other users of libcurl may
// share it.
bool global_state_is_made() {
  static const CURLcode made = curl_global_init(CURL_GLOBAL_DEFAULT);
  return made == CURLE_OK;
}

// libcurl may allocate a buffer for each request and free it afterwards, as 7.88 does. Until a
// program has freed a large block once, glibc's malloc() gives each of them back to the system, and
// every page of the next one costs a fault: a tenth of a load over loopback. See M_MMAP_THRESHOLD
// in mallopt(3). No page of this block is touched.
void have_malloc_keep_buffers() {
  std::string block;
  block.reserve(std::size_t{8} << 20);  // up to twice as much is kept
}

}  // namespace

std::vector<std::size_t> Mailbox::wait_until(Clock::time_point time) {
  std::unique_lock lock(mutex_);
  ended_.wait_until(lock, time, [this] { return !numbers_.empty(); });
  std::vector<std::size_t> numbers(numbers_);
  numbers_.clear();
  return numbers;
}

// Notifies under the lock: whoever waits may destroy the mailbox once it has the number.
void Mailbox::put(std::size_t number) {
  const std::lock_guard lock(mutex_);
  numbers_.push_back(number);
  ended_.notify_one();
}

Engine::Engine(ExchangeLimits limits, unsigned max_connections)
    : limits_(std::move(limits)), max_connections_(max_connections), process_(::getpid()) {
  active_.reserve(max_connections);
}

bool Engine::is_of_this_process() const { return process_ == ::getpid(); }

Result<std::unique_ptr<Engine>> Engine::make(ExchangeLimits limits, unsigned max_connections) {
  if (!global_state_is_made())
    return error_of(ErrorCode::resource_exhausted, "libcurl cannot be used");
  std::unique_ptr<Engine> engine(new (std::nothrow) Engine(std::move(limits), max_connections));
  if (!engine) return error_of(ErrorCode::resource_exhausted, "out of memory");
  have_malloc_keep_buffers();
  engine->multi_.reset(curl_multi_init());
  if (!engine->multi_) return error_of(ErrorCode::resource_exhausted, "out of memory");
  curl_multi_setopt(engine->multi_.get(), CURLMOPT_MAXCONNECTS, kKeptConnections);
  FLATBED_TRY(engine->start_thread());
  return engine;
}

// std::thread would throw if pthread_create() returned an error. All signals are blocked: the
// program's handlers run on its own threads, and a write to a closed connection is only an error.
Result<void> Engine::start_thread() {
  sigset_t all_signals;
  sigset_t before;
  sigfillset(&all_signals);
  pthread_sigmask(SIG_SETMASK, &all_signals, &before);
  started_ = pthread_create(&thread_, nullptr, run, this) == 0;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (!started_) return error_of(ErrorCode::resource_exhausted, "cannot start a thread");
  return {};
}

Engine::~Engine() {
  if (!started_) return;
  if (!is_of_this_process()) {
    // The connections are the parent's, and what is said over them at their end would reach it.
    static_cast<void>(multi_.release());
    return;
  }
  {
    // Under the lock: once the thread knows, it closes the handle.
    const std::lock_guard lock(mutex_);
    closing_ = true;
    curl_multi_wakeup(multi_.get());
  }
  pthread_join(thread_, nullptr);
}

std::uint64_t Engine::start(Exchange& exchange, Mailbox& mailbox, std::size_t number) {
  std::uint64_t id = 0;
  {
    const std::lock_guard lock(mutex_);
    id = next_id_++;
    waiting_.push_back({id, &exchange, &mailbox, number});
  }
  curl_multi_wakeup(multi_.get());
  return id;
}

void Engine::stop(std::uint64_t id) {
  {
    const std::lock_guard lock(mutex_);
    stops_.push_back(id);
  }
  curl_multi_wakeup(multi_.get());
}

// noexcept, because an exception must not leave the thread.
void* Engine::run(void* self) noexcept {
  static_cast<Engine*>(self)->drive();
  return nullptr;
}

void Engine::drive() {
  while (take_orders()) {
    int running = 0;
    curl_multi_perform(multi_.get(), &running);
    collect_finished();
    expire();
    curl_multi_poll(multi_.get(), nullptr, 0, wait_ms(), nullptr);
  }
  while (!active_.empty()) {
    active_.back().exchange->cancel();
    end(active_.size() - 1);
  }
  // Here, where signals are blocked: to close TLS is to write, perhaps to a closed connection.
  multi_.reset();
}

// Begins what waits, as far as there are connections for it, and stops what is to stop. False: the
// engine closes.
bool Engine::take_orders() {
  std::vector<std::uint64_t> stops;
  bool closing = false;
  {
    const std::lock_guard lock(mutex_);
    closing = closing_;
    stops.swap(stops_);
  }
  while (const std::optional<Active> active = next_to_begin(stops, closing)) {
    if (closing || std::ranges::find(stops, active->id) != stops.end()) {
      active->exchange->cancel();
      active->mailbox->put(active->number);
    } else {
      begin(*active);
    }
  }
  for (const std::uint64_t id : stops) stop_now(id);
  return !closing;
}

// The next that waits, if there is a connection for it. Those that do not get a turn now may be
// stopped all the same.
std::optional<Engine::Active> Engine::next_to_begin(std::span<const std::uint64_t> stops,
                                                    bool closing) {
  const std::lock_guard lock(mutex_);
  auto next = waiting_.begin();
  if (!closing && active_.size() >= max_connections_) {
    next = std::ranges::find_if(waiting_, [stops](const Active& active) {
      return std::ranges::find(stops, active.id) != stops.end();
    });
  }
  if (next == waiting_.end()) return std::nullopt;
  const Active active = *next;
  waiting_.erase(next);
  return active;
}

void Engine::begin(const Active& active) {
  Exchange& exchange = *active.exchange;
  bool ready = exchange.prepare(limits_);
  if (ready && curl_multi_add_handle(multi_.get(), exchange.handle()) != CURLM_OK) {
    exchange.fail(Error{ErrorCode::resource_exhausted, "out of memory"}, false);
    ready = false;
  }
  if (!ready) {
    active.mailbox->put(active.number);
    return;
  }
  exchange.begin();
  active_.push_back(active);
}

void Engine::stop_now(std::uint64_t id) {
  const auto found = std::ranges::find(active_, id, &Active::id);
  if (found == active_.end()) return;
  found->exchange->cancel();
  end(static_cast<std::size_t>(found - active_.begin()));
}

void Engine::collect_finished() {
  int left = 0;
  while (CURLMsg* message = curl_multi_info_read(multi_.get(), &left)) {
    if (message->msg != CURLMSG_DONE) continue;
    const CURLcode code = message->data.result;
    const auto found = std::ranges::find_if(active_, [message](const Active& active) {
      return active.exchange->handle() == message->easy_handle;
    });
    if (found == active_.end()) continue;
    found->exchange->finish(code);
    end(static_cast<std::size_t>(found - active_.begin()));
  }
}

void Engine::expire() {
  const Clock::time_point now = Clock::now();
  for (std::size_t i = active_.size(); i-- > 0;) {
    if (active_[i].exchange->deadline() > now) continue;
    active_[i].exchange->time_out();
    end(i);
  }
}

void Engine::end(std::size_t index) {
  const Active active = active_[index];
  active_.erase(active_.begin() + static_cast<std::ptrdiff_t>(index));
  curl_multi_remove_handle(multi_.get(), active.exchange->handle());
  freed_ = true;
  active.mailbox->put(active.number);
}

int Engine::wait_ms() {
  if (std::exchange(freed_, false)) return 0;
  Clock::time_point next = Clock::now() + std::chrono::milliseconds(kLongestWaitMs);
  for (const Active& active : active_) next = std::min(next, active.exchange->deadline());
  const auto wait = std::chrono::ceil<std::chrono::milliseconds>(next - Clock::now()).count();
  return static_cast<int>(std::clamp<std::int64_t>(wait, 0, kLongestWaitMs));
}

}  // namespace flatbed::remote
