#include "support/fault_io.hpp"

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "support/sanitizers.hpp"

#if FLATBED_ADDRESS_SANITIZER
extern "C" void* __asan_region_is_poisoned(void* begin, std::size_t nbytes);
#elif FLATBED_THREAD_SANITIZER
extern "C" void __tsan_write_range(void* begin, unsigned long nbytes);
#endif

namespace flatbed::test {

namespace {

enum class Effect : std::uint8_t { error, hook, end, pretend, flip };

constexpr std::size_t kIoCalls = 5;

struct Rule {
  IoCall call = IoCall::read;
  Calls which;
  Effect effect = Effect::error;
  int error_number = 0;
  std::uint64_t bit = 0;
  std::function<void()> hook = {};
};

struct State {
  std::mutex mutex;
  std::string name;
  std::vector<Rule> rules;
  std::optional<ShortReads> shorten;
  std::optional<ShortReads> shorten_writes;
  std::array<bool, kIoCalls> refuse_direct{};
  std::array<std::uint64_t, kIoCalls> counts{};
  std::uint64_t direct_reads = 0;
};

// What is to happen to one call.
struct Verdict {
  std::uint64_t number = 0;
  std::vector<std::function<void()>> hooks;
  int error_number = 0;
  bool end = false;
  bool pretend = false;
  std::optional<std::uint64_t> bit;
  std::optional<ShortReads> shorten;
};

constinit std::atomic<bool> armed = false;
constinit thread_local bool inside_hook = false;

// Not a plain global: calls may come before main().
State& state() {
  static State the_state;
  return the_state;
}

bool is_active() noexcept { return armed.load(std::memory_order_acquire) && !inside_hook; }

std::string link_target(const char* link) {
  char target[4096];
  const ssize_t nbytes = ::readlink(link, target, sizeof target);
  if (nbytes < 0) return {};
  std::string path(target, static_cast<std::size_t>(nbytes));
  constexpr std::string_view kUnlinked = " (deleted)";
  if (path.ends_with(kUnlinked)) path.resize(path.size() - kUnlinked.size());
  return path;
}

std::string path_of(int descriptor) {
  return link_target(("/proc/self/fd/" + std::to_string(descriptor)).c_str());
}

bool has_name(const std::string& path, const std::string& name) {
  return name.empty() || path == name || path.ends_with(name.front() == '/' ? name : "/" + name);
}

std::size_t index_of(IoCall call) { return static_cast<std::size_t>(call); }

void apply(const Rule& rule, Verdict& verdict) {
  switch (rule.effect) {
    case Effect::error:
      verdict.error_number = rule.error_number;
      break;
    case Effect::hook:
      verdict.hooks.push_back(rule.hook);
      break;
    case Effect::end:
      verdict.end = true;
      break;
    case Effect::pretend:
      verdict.pretend = true;
      break;
    case Effect::flip:
      verdict.bit = rule.bit;
      break;
  }
}

// Counts the call, runs the hooks that belong before it, and says what else is to happen.
Verdict judge(IoCall call, const std::string& path, bool direct) {
  Verdict verdict;
  {
    State& all = state();
    const std::lock_guard lock(all.mutex);
    if (!is_active() || !has_name(path, all.name)) return verdict;
    verdict.number = ++all.counts[index_of(call)];
    if (call == IoCall::read && direct) ++all.direct_reads;
    for (const Rule& rule : all.rules) {
      if (rule.call == call && verdict.number >= rule.which.first &&
          verdict.number - rule.which.first < rule.which.count) {
        apply(rule, verdict);
      }
    }
    if (direct && all.refuse_direct[index_of(call)]) verdict.error_number = EINVAL;
    verdict.shorten = call == IoCall::write ? all.shorten_writes : all.shorten;
  }
  inside_hook = true;
  for (const auto& hook : verdict.hooks) hook();
  inside_hook = false;
  return verdict;
}

// Calls use(bytes) for what lies at [begin, end) of the parts.
template <typename Use>
void for_range(std::span<const iovec> parts, std::pair<std::size_t, std::size_t> range, Use use) {
  std::size_t at = 0;
  for (const iovec& part : parts) {
    const std::size_t begin = std::max(range.first, at);
    const std::size_t end = std::min(range.second, at + part.iov_len);
    if (begin < end)
      use(std::span(static_cast<std::byte*>(part.iov_base) + begin - at, end - begin));
    at += part.iov_len;
  }
}

// The sanitizers do not see what a system call writes: these are the checks of the functions that
// are replaced here.
void check_memory([[maybe_unused]] std::span<std::byte> written) {
#if FLATBED_ADDRESS_SANITIZER
  void* const bad = __asan_region_is_poisoned(written.data(), written.size());
  if (bad != nullptr) *static_cast<volatile char*>(bad) = 0;  // reported, with this stack
#elif FLATBED_THREAD_SANITIZER
  __tsan_write_range(written.data(), written.size());
#endif
}

std::uint64_t mixed(std::uint64_t value) {  // splitmix64
  value += 0x9E3779B97F4A7C15;
  value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9;
  value = (value ^ value >> 27) * 0x94D049BB133111EB;
  return value ^ value >> 31;
}

std::size_t shorter(std::size_t nbytes, const Verdict& verdict) {
  const std::size_t multiple = verdict.shorten->multiple;
  const std::uint64_t choices = nbytes / multiple;
  if (choices == 0) return nbytes;
  const std::uint64_t random = mixed(verdict.shorten->seed + mixed(verdict.number));
  return multiple * (1 + random % choices);
}

ssize_t shortened(std::span<const iovec> parts, std::size_t got, const Verdict& verdict) {
  const std::size_t kept = shorter(got, verdict);
  for_range(parts, {kept, got},
            [](std::span<std::byte> bytes) { std::ranges::fill(bytes, std::byte{0xDB}); });
  return static_cast<ssize_t>(kept);
}

template <typename Real>
ssize_t faulty_read(int descriptor, std::span<const iovec> parts, Real real) {
  Verdict verdict;
  if (is_active()) {
    const int flags = ::fcntl(descriptor, F_GETFL);
    verdict = judge(IoCall::read, path_of(descriptor), flags >= 0 && (flags & O_DIRECT) != 0);
  }
  if (verdict.error_number != 0) {
    errno = verdict.error_number;
    return -1;
  }
  if (verdict.end) return 0;
  if (verdict.pretend) {
    std::size_t wanted = 0;
    for (const iovec& part : parts) wanted += part.iov_len;
    return static_cast<ssize_t>(wanted);
  }
  const ssize_t got = real();
  if (got <= 0) return got;
  const auto nbytes = static_cast<std::size_t>(got);
  for_range(parts, {0, nbytes}, check_memory);
  if (verdict.bit) {
    const std::size_t bit = *verdict.bit % (8 * nbytes);
    for_range(parts, {bit / 8, bit / 8 + 1},
              [&](std::span<std::byte> bytes) { bytes[0] ^= std::byte{1} << bit % 8; });
  }
  return verdict.shorten ? shortened(parts, nbytes, verdict) : got;
}

ssize_t faulty_write(int descriptor, const void* from, std::size_t nbytes, off_t offset) {
  Verdict verdict;
  if (is_active()) verdict = judge(IoCall::write, path_of(descriptor), false);
  if (verdict.error_number != 0) {
    errno = verdict.error_number;
    return -1;
  }
  if (verdict.end) return 0;
  if (verdict.shorten) nbytes = shorter(nbytes, verdict);
  return ::syscall(SYS_pwrite64, descriptor, from, nbytes, offset);
}

int faulty_sync(int descriptor) {
  if (is_active()) {
    const Verdict verdict = judge(IoCall::sync, path_of(descriptor), false);
    if (verdict.error_number != 0) {
      errno = verdict.error_number;
      return -1;
    }
  }
  return static_cast<int>(::syscall(SYS_fsync, descriptor));
}

int faulty_open(int directory, const char* path, int flags, mode_t mode) {
  if (is_active()) {
    const bool is_link = std::strncmp(path, "/proc/self/fd/", 14) == 0;
    const Verdict verdict =
        judge(IoCall::open, is_link ? link_target(path) : path, (flags & O_DIRECT) != 0);
    if (verdict.error_number != 0) {
      errno = verdict.error_number;
      return -1;
    }
  }
  return static_cast<int>(::syscall(SYS_openat, directory, path, flags, mode));
}

int faulty_stat(int descriptor, void* out) {
  if (is_active()) {
    const Verdict verdict = judge(IoCall::stat, path_of(descriptor), false);
    if (verdict.error_number != 0) {
      errno = verdict.error_number;
      return -1;
    }
  }
  return static_cast<int>(::syscall(SYS_fstat, descriptor, out));
}

int refusable_fcntl(int descriptor, int command, void* argument) {
  if (command == F_SETLEASE && is_active()) {
    errno = EINVAL;
    return -1;
  }
  return static_cast<int>(::syscall(SYS_fcntl, descriptor, command, argument));
}

bool takes_mode(int flags) { return (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE; }

void add(Rule rule) {
  const std::lock_guard lock(state().mutex);
  state().rules.push_back(std::move(rule));
}

}  // namespace

FaultIo::FaultIo(std::string_view name) {
  const std::lock_guard lock(state().mutex);
  state().name = name;
  if (armed.exchange(true)) {
    std::fputs("FaultIo: there is one already\n", stderr);
    std::abort();
  }
}

FaultIo::~FaultIo() {
  State& all = state();
  const std::lock_guard lock(all.mutex);
  armed = false;
  all.name.clear();
  all.rules.clear();
  all.shorten.reset();
  all.shorten_writes.reset();
  all.refuse_direct = {};
  all.counts = {};
  all.direct_reads = 0;
}

void FaultIo::fail(IoCall call, Calls which, int error_number) {
  add({.call = call, .which = which, .effect = Effect::error, .error_number = error_number});
}

void FaultIo::before(IoCall call, Calls which, std::function<void()> hook) {
  add({.call = call, .which = which, .effect = Effect::hook, .hook = std::move(hook)});
}

void FaultIo::end_early(Calls reads) { add({.which = reads, .effect = Effect::end}); }
void FaultIo::pretend(Calls reads) { add({.which = reads, .effect = Effect::pretend}); }
void FaultIo::flip_bit(Calls reads, std::uint64_t bit) {
  add({.which = reads, .effect = Effect::flip, .bit = bit});
}

void FaultIo::shorten(ShortReads how) {
  const std::lock_guard lock(state().mutex);
  state().shorten = how;
}

void FaultIo::shorten_writes(ShortReads how) {
  const std::lock_guard lock(state().mutex);
  state().shorten_writes = how;
}

void FaultIo::write_nothing(Calls writes) {
  add({.call = IoCall::write, .which = writes, .effect = Effect::end});
}

void FaultIo::refuse_direct(IoCall call) {
  const std::lock_guard lock(state().mutex);
  state().refuse_direct[index_of(call)] = true;
}

std::uint64_t FaultIo::count(IoCall call) const {
  const std::lock_guard lock(state().mutex);
  return state().counts[index_of(call)];
}

std::uint64_t FaultIo::direct_reads() const {
  const std::lock_guard lock(state().mutex);
  return state().direct_reads;
}

// ---- the C library's functions ------------------------------------------------------------------

namespace {

ssize_t read_one(int descriptor, void* out, std::size_t nbytes, off_t offset) {
  const iovec part = {out, nbytes};
  return faulty_read(descriptor, {&part, 1},
                     [&] { return ::syscall(SYS_pread64, descriptor, out, nbytes, offset); });
}

std::span<const iovec> parts_of(const iovec* parts, int count) {
  return {parts, static_cast<std::size_t>(std::max(count, 0))};
}

// The kernel takes the offset in two halves, of which 64-bit systems use the first.
ssize_t read_parts(int descriptor, const iovec* parts, int count, off_t offset) {
  return faulty_read(descriptor, parts_of(parts, count), [&] {
    return ::syscall(SYS_preadv, descriptor, parts, static_cast<long>(count), offset, 0L);
  });
}

}  // namespace

}  // namespace flatbed::test

extern "C" {

ssize_t pread(int descriptor, void* out, std::size_t nbytes, off_t offset) {
  return flatbed::test::read_one(descriptor, out, nbytes, offset);
}
ssize_t pread64(int descriptor, void* out, std::size_t nbytes, off64_t offset) {
  return flatbed::test::read_one(descriptor, out, nbytes, offset);
}

ssize_t pwrite(int descriptor, const void* from, std::size_t nbytes, off_t offset) {
  return flatbed::test::faulty_write(descriptor, from, nbytes, offset);
}
ssize_t pwrite64(int descriptor, const void* from, std::size_t nbytes, off64_t offset) {
  return flatbed::test::faulty_write(descriptor, from, nbytes, offset);
}
int fsync(int descriptor) { return flatbed::test::faulty_sync(descriptor); }

ssize_t preadv(int descriptor, const iovec* parts, int count, off_t offset) {
  return flatbed::test::read_parts(descriptor, parts, count, offset);
}
ssize_t preadv64(int descriptor, const iovec* parts, int count, off64_t offset) {
  return flatbed::test::read_parts(descriptor, parts, count, offset);
}

ssize_t preadv2(int descriptor, const iovec* parts, int count, off_t offset, int flags) {
  return flatbed::test::faulty_read(descriptor, flatbed::test::parts_of(parts, count), [&] {
    return ::syscall(SYS_preadv2, descriptor, parts, static_cast<long>(count), offset, 0L, flags);
  });
}
ssize_t preadv64v2(int descriptor, const iovec* parts, int count, off64_t offset, int flags) {
  return ::preadv2(descriptor, parts, count, offset, flags);
}

int fstat(int descriptor, struct stat* out) noexcept {
  return flatbed::test::faulty_stat(descriptor, out);
}
int fstat64(int descriptor, struct stat64* out) noexcept {
  return flatbed::test::faulty_stat(descriptor, out);
}

// All commands take a pointer or a number of its size, or nothing.
int fcntl(int descriptor, int command, ...) {
  va_list arguments;
  va_start(arguments, command);
  void* const argument = va_arg(arguments, void*);
  va_end(arguments);
  return flatbed::test::refusable_fcntl(descriptor, command, argument);
}

// The mode stands in the variable arguments, of which each function reads its own.
#define FLATBED_MODE_ARGUMENT(flags)                    \
  mode_t mode = 0;                                      \
  if (flatbed::test::takes_mode(flags)) {               \
    va_list arguments;                                  \
    va_start(arguments, flags);                         \
    mode = static_cast<mode_t>(va_arg(arguments, int)); \
    va_end(arguments);                                  \
  }

int open(const char* path, int flags, ...) {
  FLATBED_MODE_ARGUMENT(flags)
  return flatbed::test::faulty_open(AT_FDCWD, path, flags, mode);
}
int open64(const char* path, int flags, ...) {
  FLATBED_MODE_ARGUMENT(flags)
  return flatbed::test::faulty_open(AT_FDCWD, path, flags, mode);
}
int openat(int directory, const char* path, int flags, ...) {
  FLATBED_MODE_ARGUMENT(flags)
  return flatbed::test::faulty_open(directory, path, flags, mode);
}
int openat64(int directory, const char* path, int flags, ...) {
  FLATBED_MODE_ARGUMENT(flags)
  return flatbed::test::faulty_open(directory, path, flags, mode);
}

// What io_uring reads is not seen here, so while a FaultIo lives, the system has none.
struct io_uring;
int io_uring_queue_init(unsigned entries, io_uring* ring, unsigned flags) {
  using Init = int (*)(unsigned, io_uring*, unsigned);
  const auto init = flatbed::test::armed ? nullptr
                                         : reinterpret_cast<Init>(  // NOLINT: what dlsym() gives
                                               ::dlsym(RTLD_NEXT, "io_uring_queue_init"));
  return init != nullptr ? init(entries, ring, flags) : -ENOSYS;
}

}  // extern "C"
