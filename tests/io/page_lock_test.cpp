// PageLock: what is locked while it lives, and what it says where a limit stands against it.
#include "flatbed/page_lock.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>
#include <utility>
#include <vector>

#include "support/expect_error.hpp"
#include "support/page_map.hpp"

namespace flatbed {
namespace {

using test::locked_nbytes;
using test::page_nbytes;

// Runs `check` in a child that may lock no memory; whether it returned true.
template <typename Check>
bool without_locked_memory(Check check) {
  const pid_t child = ::fork();
  if (child == 0) {
    const rlimit none = {};
    const bool limited = ::setrlimit(RLIMIT_MEMLOCK, &none) == 0;
    // The superuser's limits do not count.
    const bool dropped = ::geteuid() != 0 || ::setresuid(65534, 65534, 65534) == 0;
    ::_exit(limited && dropped && check() ? 0 : 1);
  }
  int status = 1;
  return ::waitpid(child, &status, 0) == child && status == 0;
}

TEST(PageLock, HoldsWhileItLives) {
  if (!test::kPagesCanBeLocked) GTEST_SKIP() << "mlock() does nothing here";
  const std::vector<std::byte> bytes(4 * page_nbytes());
  const std::size_t before = locked_nbytes();
  {
    const Result<PageLock> lock = PageLock::lock(bytes);
    ASSERT_OK(lock);
    EXPECT_GE(locked_nbytes(), before + bytes.size());
    EXPECT_EQ(lock->bytes().size(), bytes.size());
  }
  EXPECT_EQ(locked_nbytes(), before);
}

TEST(PageLock, MovesToItsNewOwner) {
  if (!test::kPagesCanBeLocked) GTEST_SKIP() << "mlock() does nothing here";
  const std::vector<std::byte> bytes(4 * page_nbytes());
  const std::size_t before = locked_nbytes();
  PageLock kept;
  {
    PageLock made = PageLock::lock(bytes).value();
    PageLock moved = std::move(made);
    kept = std::move(moved);
  }
  EXPECT_GE(locked_nbytes(), before + bytes.size());
  kept = PageLock();
  EXPECT_EQ(locked_nbytes(), before);
}

TEST(PageLock, OfNothingNeedsNothing) {
  EXPECT_OK(PageLock::lock({}));
  EXPECT_TRUE(PageLock().bytes().empty());
}

TEST(PageLock, KeepsTheOwnerOfTheMemoryAlive) {
  auto owner = std::make_shared<std::vector<std::byte>>(100);
  const std::weak_ptr<const void> watched = owner;
  {
    const Result<PageLock> lock = PageLock::lock(*owner, owner);
    ASSERT_OK(lock);
    owner.reset();
    EXPECT_FALSE(watched.expired());
  }
  EXPECT_TRUE(watched.expired());
}

TEST(PageLock, NamesTheLimitThatStandsAgainstIt) {
  if (!test::kPagesCanBeLocked) GTEST_SKIP() << "mlock() does nothing here";
  EXPECT_TRUE(without_locked_memory([] {
    const std::vector<std::byte> bytes(4096);
    const Result<PageLock> lock = PageLock::lock(bytes);
    return !lock && lock.error().code == ErrorCode::resource_exhausted &&
           lock.error().message ==
               "locking 4096 bytes of memory: the limit RLIMIT_MEMLOCK (ulimit -l) allows 0 bytes "
               "in all";
  }));
}

}  // namespace
}  // namespace flatbed
