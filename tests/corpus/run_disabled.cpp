// Disables one check of the readers at a time and says which file of the corpus notices. Built by
// disable_checks.py, which numbers the checks and puts a switch into each (flatbed_mutation.hpp).
//
//   flatbed_corpus_disabled FOLDER CHECKS
//
// A first run of each file, with all checks as they are, tells which checks it would be another one
// without. Then for each check a process of its own judges these files with the check disabled,
// until one is not as the manifest says. A crash is noticed too, and so is a hang. Prints a line
// for each check: its number, "caught" and the file, or "survives" and how many files come to it.
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "corpus/judge.hpp"
#include "mutation/flatbed_mutation.hpp"

namespace flatbed::corpus {
namespace {

constexpr int kMostSeconds = 20;               // of all files of one check
constexpr rlim_t kMostAddresses = 4ULL << 30;  // without a limit on sizes, memory would run out

struct Reach {
  std::vector<std::vector<std::size_t>> files;  // by check: which of the cases it matters for
  bool clean = true;
};

Reach measure(const std::vector<Case>& cases, const std::string& folder, int checks) {
  Reach reach;
  reach.files.resize(static_cast<std::size_t>(checks) + 1);
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const std::string wrong = judge(cases[i], folder);
    if (!wrong.empty()) {
      std::printf("with all checks: %s: %s\n", cases[i].id.c_str(), wrong.c_str());
      reach.clean = false;
    }
    for (int check = 1; check <= checks; ++check) {
      if (flatbed_mutation::state().take_mattered(check))
        reach.files[static_cast<std::size_t>(check)].push_back(i);
    }
  }
  return reach;
}

// In the process of its own: writes the first file that notices to `out`.
void judge_without(int check, const std::vector<const Case*>& cases, const std::string& folder,
                   int out) {
  const rlimit limit{kMostAddresses, kMostAddresses};
  ::setrlimit(RLIMIT_AS, &limit);
  const rlimit no_core{0, 0};
  ::setrlimit(RLIMIT_CORE, &no_core);
  flatbed_mutation::state().wake(check);
  for (const Case* one : cases) {
    std::string line = one->id;
    // What crashes or hangs has been named by then.
    if (::write(out, line.data(), line.size()) < 0 || ::write(out, "\n", 1) < 0) ::_exit(3);
    if (!judge(*one, folder).empty()) ::_exit(1);
  }
  ::_exit(0);
}

std::string read_last_line(int from) {
  std::string text;
  char buffer[4096];
  for (ssize_t count; (count = ::read(from, buffer, sizeof buffer)) > 0;)
    text.append(buffer, static_cast<std::size_t>(count));
  if (!text.empty()) text.pop_back();
  return text.substr(text.rfind('\n') + 1);
}

// The exit status, or 256 and the signal; 512 when it took too long.
int wait_for(pid_t child) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(kMostSeconds);
  for (;;) {
    int status = 0;
    if (::waitpid(child, &status, WNOHANG) == child)
      return WIFSIGNALED(status) ? 256 + WTERMSIG(status) : WEXITSTATUS(status);
    if (std::chrono::steady_clock::now() > until) {
      ::kill(child, SIGKILL);
      ::waitpid(child, &status, 0);
      return 512;
    }
    ::usleep(1000);
  }
}

void disable(int check, const std::vector<const Case*>& cases, const std::string& folder) {
  int ends[2];
  if (::pipe(ends) != 0) std::exit(2);
  // Room for all names, so that nobody waits for a reader.
  std::fflush(stdout);
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(ends[0]);
    judge_without(check, cases, folder, ends[1]);
  }
  ::close(ends[1]);
  const int status = wait_for(child);
  const std::string file = read_last_line(ends[0]);
  ::close(ends[0]);
  if (status == 0) {
    std::printf("%d survives %zu\n", check, cases.size());
  } else {
    const char* const how = status == 512 ? "hang" : status > 256 ? "crash" : "verdict";
    std::printf("%d caught %s %s\n", check, how, file.c_str());
  }
}

int run(const std::string& folder, int checks) {
  std::vector<Case> cases;
  if (!read_manifest(folder + "/manifest.jsonl", cases)) return 2;
  const Reach reach = measure(cases, folder, checks);
  if (!reach.clean) return 1;
  for (int check = 1; check <= checks; ++check) {
    std::vector<const Case*> chosen;
    for (const std::size_t i : reach.files[static_cast<std::size_t>(check)]) {
      // A pipe holds 64 KiB: enough for the names of this many.
      if (chosen.size() < 500) chosen.push_back(&cases[i]);
    }
    disable(check, chosen, folder);
  }
  return 0;
}

}  // namespace
}  // namespace flatbed::corpus

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  return flatbed::corpus::run(argv[1], std::atoi(argv[2]));
}
