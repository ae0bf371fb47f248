// passes_where_call_fails(): runs something in a child process in which a system call fails, as on
// a file system that does not know it. Needs neither root nor a tracer: the child filters its own
// calls (seccomp). For calls that FaultIo does not see.
#pragma once

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <functional>

namespace flatbed::test {

// `call` is a SYS_ number. Returns what `body` returns; true where a process cannot filter calls.
inline bool passes_where_call_fails(long call, int error_number,
                                    const std::function<bool()>& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    std::array filter{
        sock_filter(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))),
        sock_filter(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(call), 0, 1)),
        sock_filter(
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<unsigned>(error_number))),
        sock_filter(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)),
    };
    const sock_fprog program{static_cast<unsigned short>(filter.size()), filter.data()};
    const bool filtered = ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
                          ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
    ::_exit(!filtered || body() ? 0 : 1);
  }
  int status = 1;
  return ::waitpid(child, &status, 0) == child && status == 0;
}

}  // namespace flatbed::test
