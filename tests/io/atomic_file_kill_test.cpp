// AtomicFile killed before each of its system calls: the target is the old file or the complete new
// one, and nothing is left, after the next run at most.
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

#include "base/bytes.hpp"
#include "io/atomic_file.hpp"
#include "io/leftover.hpp"
#include "support/expect_error.hpp"
#include "support/kill_at_call.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::Ending;
using test::read_file;
using test::run_until_call;
using test::TempDir;
using Names = std::vector<std::string>;

bool replace_with(const std::filesystem::path& target, std::string_view bytes) {
  Result<AtomicFile> file = AtomicFile::create(target, bytes.size());
  return file && file->write_at(0, as_bytes(bytes)) && file->commit();
}

// As on a file system on which a file without a name cannot get one.
void refuse_links() {
  const sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(SYS_linkat), 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EOPNOTSUPP),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{std::size(filter), const_cast<sock_filter*>(filter)};
  ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

struct Kill {
  const char* name;
  bool replaces;       // there is an old file
  bool has_links;      // and files without names
  std::size_t leaves;  // names beside the target that a kill may leave until the next run
};

class AtomicFileKill : public testing::TestWithParam<Kill> {};

TEST_P(AtomicFileKill, LosesNothingAndLeavesNothing) {
  const Kill& kill = GetParam();
  const TempDir dir;
  std::uint64_t kills = 0;
  std::size_t left = 0;
  for (std::uint64_t n = 1; n < 500; ++n) {
    std::filesystem::remove(dir / "a");
    if (kill.replaces) test::write_file(dir / "a", "old");
    const Ending ending = run_until_call(n, [&] {
      if (!kill.has_links) refuse_links();
      return replace_with(dir / "a", "new");
    });
    if (ending == Ending::not_possible) GTEST_SKIP() << "no system call filters here";
    ASSERT_NE(ending, Ending::failed) << n;
    const bool there = std::filesystem::exists(dir / "a");
    const std::string contents = there ? read_file(dir / "a") : "";
    EXPECT_TRUE(contents == "new" || (kill.replaces ? contents == "old" : !there)) << n << contents;
    const std::size_t others = dir.names().size() - (there ? 1 : 0);
    EXPECT_LE(others, kill.leaves) << n;
    left += others;
    if (ending == Ending::finished) {
      EXPECT_EQ(contents, "new");
      break;
    }
    ++kills;
    ASSERT_TRUE(replace_with(dir / "a", "next")) << n;
    EXPECT_EQ(read_file(dir / "a"), "next");
    EXPECT_EQ(dir.names(), Names{"a"}) << n;
  }
  EXPECT_GT(kills, 10u);
  EXPECT_EQ(left > 0, kill.leaves > 0) << "no kill met the time in which there is another name";
}

INSTANTIATE_TEST_SUITE_P(Ways, AtomicFileKill,
                         testing::Values(Kill{"New", false, true, 0},
                                         Kill{"Replaced", true, true, 1},
                                         Kill{"NewWithoutLinks", false, false, 1},
                                         Kill{"ReplacedWithoutLinks", true, false, 1}),
                         [](const auto& kill) { return kill.param.name; });

}  // namespace
}  // namespace flatbed
