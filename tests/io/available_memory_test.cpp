// How much memory the kernel says is available, on this machine and by files made up here.
#include "io/available_memory.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string_view>

#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::TempDir;

constexpr std::uint64_t kMib = 1 << 20;

// A root with /proc and /sys of its own, and 64 MiB available.
class Machine {
 public:
  Machine() { write("proc/meminfo", "MemTotal: 999999 kB\nMemAvailable:   65536 kB\nZ: 1 kB\n"); }

  void write(std::string_view path, std::string_view text) const {
    const std::filesystem::path file = root_ / path;
    std::filesystem::create_directories(file.parent_path());
    test::write_file(file, text);
  }
  [[nodiscard]] std::optional<std::uint64_t> available() const {
    return available_memory(root_.path());
  }

 private:
  TempDir root_;
};

TEST(AvailableMemory, IsKnownAndNoNonsense) {
  const std::optional<std::uint64_t> nbytes = available_memory();
  ASSERT_TRUE(nbytes);
  EXPECT_LT(*nbytes, std::uint64_t{1} << 50);
}

TEST(AvailableMemory, IsThatOfTheMachineWithoutGroups) {
  const Machine machine;
  EXPECT_EQ(machine.available(), 64 * kMib);
  machine.write("proc/self/cgroup", "0::/\n");
  EXPECT_EQ(machine.available(), 64 * kMib);
}

TEST(AvailableMemory, IsUnknownWithoutProc) {
  const TempDir empty;
  EXPECT_EQ(available_memory(empty.path()), std::nullopt);
}

// Pages of files can be dropped, so they do not count as used.
TEST(AvailableMemory, IsWhatTheLimitOfAGroupLeaves) {
  const Machine machine;
  machine.write("proc/self/cgroup", "0::/job/task\n");
  machine.write("sys/fs/cgroup/job/task/memory.max", "33554432\n");  // 32 MiB
  machine.write("sys/fs/cgroup/job/task/memory.current", "10485760\n");
  EXPECT_EQ(machine.available(), 22 * kMib);
  machine.write("sys/fs/cgroup/job/task/memory.stat",
                "anon 1\nworkingset_inactive_file 9\ninactive_file 4194304\nactive_file 1048576\n");
  EXPECT_EQ(machine.available(), 27 * kMib);
}

TEST(AvailableMemory, IsTheLeastOfAllGroupsAboveAndTheMachine) {
  const Machine machine;
  machine.write("proc/self/cgroup", "0::/job/task\n");
  machine.write("sys/fs/cgroup/job/task/memory.max", "max\n");
  machine.write("sys/fs/cgroup/job/task/memory.current", "1\n");
  machine.write("sys/fs/cgroup/job/memory.max", "10485760\n");
  machine.write("sys/fs/cgroup/job/memory.current", "4194304\n");
  EXPECT_EQ(machine.available(), 6 * kMib);
  machine.write("sys/fs/cgroup/job/memory.max", "1048576000\n");
  EXPECT_EQ(machine.available(), 64 * kMib);
}

TEST(AvailableMemory, IsNoneInAGroupBeyondItsLimit) {
  const Machine machine;
  machine.write("proc/self/cgroup", "0::/\n");
  machine.write("sys/fs/cgroup/memory.max", "4096\n");
  machine.write("sys/fs/cgroup/memory.current", "8192\n");
  EXPECT_EQ(machine.available(), 0u);
}

TEST(AvailableMemory, CountsTheFirstVersionOfGroups) {
  const Machine machine;
  machine.write("proc/self/cgroup", "9:cpu,cpuacct:/a\n4:memory:/batch\n1:name=systemd:/\n0::/\n");
  machine.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  machine.write("sys/fs/cgroup/memory/memory.usage_in_bytes", "1\n");
  machine.write("sys/fs/cgroup/memory/batch/memory.limit_in_bytes", "20971520\n");
  machine.write("sys/fs/cgroup/memory/batch/memory.usage_in_bytes", "5242880\n");
  machine.write("sys/fs/cgroup/memory/batch/memory.stat",
                "inactive_file 7\ntotal_inactive_file 1048576\n");
  machine.write("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "1\n");  // another hierarchy's
  machine.write("sys/fs/cgroup/memory/a/memory.usage_in_bytes", "1\n");
  EXPECT_EQ(machine.available(), 16 * kMib);
}

// The path is the host's, and the mount has the container's group at its top.
TEST(AvailableMemory, CountsTheGroupOfAContainer) {
  const Machine machine;
  machine.write("proc/self/cgroup", "4:memory:/docker/0123\n");
  machine.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "3145728\n");
  machine.write("sys/fs/cgroup/memory/memory.usage_in_bytes", "1048576\n");
  EXPECT_EQ(machine.available(), 2 * kMib);
}

TEST(AvailableMemory, IgnoresGroupsThatItDoesNotUnderstand) {
  const Machine machine;
  machine.write("proc/self/cgroup", "\n:\n::\nmemory\n4:memory:x\n0::/a\n0::/b");
  machine.write("sys/fs/cgroup/a/memory.max", "many\n");
  machine.write("sys/fs/cgroup/a/memory.current", "\n");
  machine.write("sys/fs/cgroup/b/memory.max", "1048576");
  machine.write("sys/fs/cgroup/b/memory.current", "0");
  EXPECT_EQ(machine.available(), 1 * kMib);
}

}  // namespace
}  // namespace flatbed
