// LruPool: how many resources it keeps, and which.
#include "io/lru_pool.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "support/expect_error.hpp"

namespace flatbed {
namespace {

// A resource that says when it is closed.
class Resource {
 public:
  Resource(int number, std::multiset<int>& open) : number_(number), open_(&open) {
    open.insert(number);
  }
  Resource(Resource&& other) noexcept
      : number_(other.number_), open_(std::exchange(other.open_, nullptr)) {}
  Resource& operator=(Resource&& other) noexcept {
    std::swap(number_, other.number_);
    std::swap(open_, other.open_);
    return *this;
  }
  ~Resource() {
    if (open_ != nullptr) open_->erase(open_->find(number_));
  }

 private:
  int number_;
  std::multiset<int>* open_;
};

struct Pool {
  std::multiset<int> open;
  LruPool<Resource> pool{2};
  int opened = 0;

  std::shared_ptr<const Resource> get(std::uint32_t key) {
    return pool
        .get(key,
             [&]() -> Result<Resource> {
               ++opened;
               return Resource(static_cast<int>(key), open);
             })
        .value();
  }
};

TEST(LruPool, KeepsTheLastUsed) {
  Pool pool;
  for (int i = 0; i < 3; ++i) static_cast<void>(pool.pool.add());
  static_cast<void>(pool.get(0));
  static_cast<void>(pool.get(1));
  static_cast<void>(pool.get(0));
  static_cast<void>(pool.get(2));
  EXPECT_EQ(pool.open, (std::multiset<int>{0, 2}));
  EXPECT_EQ(pool.opened, 3);
  static_cast<void>(pool.get(1));
  EXPECT_EQ(pool.open, (std::multiset<int>{1, 2}));
  EXPECT_EQ(pool.opened, 4);
}

TEST(LruPool, LeavesWhatIsInUseOpen) {
  Pool pool;
  for (int i = 0; i < 3; ++i) static_cast<void>(pool.pool.add());
  std::shared_ptr<const Resource> used = pool.get(0);
  static_cast<void>(pool.get(1));
  static_cast<void>(pool.get(2));
  EXPECT_EQ(pool.open, (std::multiset<int>{0, 1, 2}));
  used.reset();
  EXPECT_EQ(pool.open, (std::multiset<int>{1, 2}));
}

TEST(LruPool, MakesRoomOnceWhereTheSystemHasNone) {
  Pool pool;
  for (int i = 0; i < 3; ++i) static_cast<void>(pool.pool.add());
  static_cast<void>(pool.get(0));
  int tries = 0;
  const auto made = pool.pool.get(1, [&]() -> Result<Resource> {
    if (++tries == 1) return Error{ErrorCode::resource_exhausted, "too many"};
    return Resource(1, pool.open);
  });
  EXPECT_OK(made);
  EXPECT_EQ(pool.open, (std::multiset<int>{1}));
  const auto none = pool.pool.get(2, [&]() -> Result<Resource> {
    ++tries;
    return Error{ErrorCode::resource_exhausted, "too many"};
  });
  EXPECT_ERROR(none, resource_exhausted);
  EXPECT_EQ(tries, 4);
}

TEST(LruPool, IsSharedByThreads) {
  LruPool<int> pool(3);
  for (int i = 0; i < 8; ++i) static_cast<void>(pool.add());
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&pool, thread] {
      for (std::uint32_t i = 0; i < 2000; ++i) {
        const auto key = (i * 7 + static_cast<std::uint32_t>(thread)) % 8;
        const auto got = pool.get(key, [&]() -> Result<int> { return static_cast<int>(key); });
        EXPECT_EQ(**got, static_cast<int>(key));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace flatbed
