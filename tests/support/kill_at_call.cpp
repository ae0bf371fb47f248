#include "support/kill_at_call.hpp"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <vector>

#include "support/sanitizers.hpp"

namespace flatbed::test {

#if (defined(__x86_64__) || defined(__aarch64__)) && !FLATBED_SANITIZED

namespace {

constexpr int kNoFilter = 77;
constexpr int kSurvived = 78;
// In the unused sixth argument of the calls that the handler makes; the filter lets those pass.
constexpr unsigned kMadeByHandler = 0x5A17AB1E;

// No call with six arguments is among them.
constexpr std::array kCalls {
#if defined(__x86_64__)
  SYS_open, SYS_stat, SYS_lstat, SYS_rename, SYS_link, SYS_unlink, SYS_readlink, SYS_mkdir,
#endif
      SYS_openat, SYS_close, SYS_fstat, SYS_newfstatat, SYS_statx, SYS_fchmod, SYS_fchown,
      SYS_fallocate, SYS_ftruncate, SYS_pread64, SYS_preadv, SYS_pwrite64, SYS_pwritev, SYS_write,
      SYS_sync_file_range, SYS_fsync, SYS_fdatasync, SYS_linkat, SYS_renameat, SYS_renameat2,
      SYS_unlinkat, SYS_flock, SYS_fcntl, SYS_getdents64, SYS_readlinkat, SYS_faccessat,
      SYS_mkdirat, SYS_rt_sigprocmask,
};

constinit std::atomic<std::uint64_t> calls = 0;
constinit std::uint64_t last_call = 0;
constinit int error_of_last_call = 0;  // 0: it ends the process

struct Call {
  long number = 0;
  std::array<unsigned long, 5> arguments{};
};

#if defined(__x86_64__)
Call call_of(const ucontext_t& context) {
  const auto& regs = context.uc_mcontext.gregs;
  const auto at = [&](int which) { return static_cast<unsigned long>(regs[which]); };
  return {static_cast<long>(at(REG_RAX)),
          {at(REG_RDI), at(REG_RSI), at(REG_RDX), at(REG_R10), at(REG_R8)}};
}
void set_result(ucontext_t& context, long result) { context.uc_mcontext.gregs[REG_RAX] = result; }
#else
Call call_of(const ucontext_t& context) {
  const auto& regs = context.uc_mcontext.regs;
  return {static_cast<long>(regs[8]), {regs[0], regs[1], regs[2], regs[3], regs[4]}};
}
void set_result(ucontext_t& context, long result) {
  context.uc_mcontext.regs[0] = static_cast<unsigned long>(result);
}
#endif

// Threads block all signals, but a call that is sent to a blocked handler ends the process. So this
// changes the mask for them, in which it leaves SIGSYS out. The kernel's masks have 64 bits.
void change_mask(const Call& call, ucontext_t& context) {
  std::uint64_t mask = 0;
  std::memcpy(&mask, &context.uc_sigmask, sizeof mask);
  auto* const old = reinterpret_cast<void*>(call.arguments[2]);
  if (old != nullptr) std::memcpy(old, &mask, sizeof mask);
  const auto* const from = reinterpret_cast<const void*>(call.arguments[1]);
  if (from != nullptr) {
    std::uint64_t set = 0;
    std::memcpy(&set, from, sizeof set);
    const auto how = static_cast<int>(call.arguments[0]);
    mask = how == SIG_BLOCK ? mask | set : how == SIG_UNBLOCK ? mask & ~set : set;
  }
  mask &= ~(std::uint64_t{1} << (SIGSYS - 1));
  std::memcpy(&context.uc_sigmask, &mask, sizeof mask);
  set_result(context, 0);
}

extern "C" void on_call(int, siginfo_t*, void* where) {
  const int saved = errno;
  auto& context = *static_cast<ucontext_t*>(where);
  const Call call = call_of(context);
  if (call.number == SYS_rt_sigprocmask) {
    change_mask(call, context);
    return;
  }
  if (calls.fetch_add(1) + 1 == last_call) {
    if (error_of_last_call == 0) ::kill(::getpid(), SIGKILL);
    if (call.number != SYS_close) {
      set_result(context, -error_of_last_call);
      errno = saved;
      return;
    }
  }
  const auto& a = call.arguments;
  const long result = ::syscall(call.number, a[0], a[1], a[2], a[3], a[4], kMadeByHandler);
  set_result(context, result < 0 ? -errno : result);
  errno = saved;
}

bool start_counting(std::uint64_t n) {
  last_call = n;
  struct sigaction action = {};
  action.sa_sigaction = on_call;
  action.sa_flags = SA_SIGINFO;
  sigemptyset(&action.sa_mask);
  if (::sigaction(SIGSYS, &action, nullptr) != 0) return false;
  std::vector<sock_filter> filter{
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
  };
  for (std::size_t i = 0; i < kCalls.size(); ++i) {
    const auto to_check = static_cast<unsigned char>(kCalls.size() - i);
    filter.push_back(
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(kCalls[i]), to_check, 0));
  }
  filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  filter.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[5])));
  filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kMadeByHandler, 0, 1));
  filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP));
  const sock_fprog program{static_cast<unsigned short>(filter.size()), filter.data()};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

}  // namespace

Ending run_until_call(std::uint64_t n, const std::function<bool()>& body) {
  return run_with_failing_call(n, 0, body);
}

Ending run_with_failing_call(std::uint64_t n, int error_number, const std::function<bool()>& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    error_of_last_call = error_number;
    if (!start_counting(n)) ::_exit(kNoFilter);
    const bool succeeded = body();
    ::_exit(!succeeded ? 1 : calls.load() >= n ? kSurvived : 0);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) return Ending::killed;
  if (!WIFEXITED(status)) return Ending::failed;
  if (WEXITSTATUS(status) == kNoFilter) return Ending::not_possible;
  if (WEXITSTATUS(status) == kSurvived) return Ending::survived;
  return WEXITSTATUS(status) == 0 ? Ending::finished : Ending::failed;
}

#else

Ending run_until_call(std::uint64_t, const std::function<bool()>&) { return Ending::not_possible; }
Ending run_with_failing_call(std::uint64_t, int, const std::function<bool()>&) {
  return Ending::not_possible;
}

#endif

}  // namespace flatbed::test
