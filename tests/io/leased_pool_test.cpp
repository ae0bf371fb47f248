// LeasedPool: files under leases for several threads, opened as seldom as possible.
#include "io/leased_pool.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/bytes.hpp"
#include "io/file.hpp"
#include "support/descriptors.hpp"
#include "support/expect_error.hpp"
#include "support/leases.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::can_write;
using test::open_descriptors;
using test::TempDir;
using test::write_file;

constexpr FileRange kAll{0, 10'000};

class LeasedPools : public testing::Test {
 protected:
  void SetUp() override {
    if (!test::has_leases(dir.path())) GTEST_SKIP() << "no leases in the temporary folder";
  }
  const File& file(const std::string& name) {
    write_file(dir / name, std::string(kAll.end, 'x'));
    return files.emplace_back(File::open(dir / name).value());
  }

  const TempDir dir;
  std::deque<File> files;
};

TEST_F(LeasedPools, GiveEachReaderALeaseOfItsOwn) {
  const File& a = file("a");
  LeasedPool pool;
  std::optional<LeasedPool::Pages> first = pool.pages(a, kAll);
  std::optional<LeasedPool::Pages> second = pool.pages(a, {5000, 5001});
  ASSERT_TRUE(first && second);
  EXPECT_EQ(first->bytes(kAll).size(), kAll.end);
  EXPECT_EQ(as_text(second->bytes({5000, 5001})), "x");
  first.reset();
  EXPECT_FALSE(can_write(dir / "a"));
  std::optional<LeasedPool::Pages> moved = *std::move(second);
  second.reset();
  EXPECT_FALSE(can_write(dir / "a"));
  moved.reset();
  EXPECT_TRUE(can_write(dir / "a"));
  EXPECT_TRUE(pool.pages(a, kAll));
}

TEST_F(LeasedPools, OpenAnotherWhileTheIdleOneIsRead) {
  const File& a = file("a");
  LeasedPool pool(LeaseUse::whenever_possible);
  EXPECT_TRUE(pool.pages(a, kAll));
  const std::optional<LeasedPool::Pages> first = pool.pages(a, kAll);
  const std::optional<LeasedPool::Pages> second = pool.pages(a, kAll);
  EXPECT_TRUE(first && second);
}

TEST_F(LeasedPools, OpenNoMoreThanIsReadAtOnce) {
  const File& a = file("a");
  const File& b = file("b");
  const std::size_t before = open_descriptors();
  {
    LeasedPool pool(LeaseUse::whenever_possible);
    for (int i = 0; i < 20; ++i) EXPECT_TRUE(pool.pages(i % 3 == 0 ? a : b, kAll));
    EXPECT_EQ(open_descriptors(), before + 2);
  }
  EXPECT_EQ(open_descriptors(), before);
}

TEST_F(LeasedPools, KeepFewThatNobodyReads) {
  for (std::size_t i = 0; i < 2 * kMostIdle; ++i) file(std::to_string(i));
  const std::size_t before = open_descriptors();
  LeasedPool pool(LeaseUse::whenever_possible);
  for (const File& each : files) EXPECT_TRUE(pool.pages(each, kAll));
  EXPECT_EQ(open_descriptors(), before + kMostIdle);
  EXPECT_TRUE(pool.pages(files.front(), kAll));
}

TEST_F(LeasedPools, GoOnAsLongAsItPaysOrAlways) {
  const File& a = file("a");
  LeasedPool thrifty;
  LeasedPool stubborn(LeaseUse::whenever_possible);
  int held = 0;
  while (held < 10'000 && thrifty.pages(a, {0, 1})) ++held;
  EXPECT_GT(held, 0);
  EXPECT_FALSE(thrifty.pages(a, kAll));
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(stubborn.pages(a, {0, 1}));
}

TEST_F(LeasedPools, ServeThreadsAtOnce) {
  const File& a = file("a");
  const File& b = file("b");
  LeasedPool pool(LeaseUse::whenever_possible);
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (unsigned i = 0; i < 200; ++i) {
        const auto pages = pool.pages((i + t) % 2 == 0 ? a : b, kAll);
        EXPECT_TRUE(pages && as_text(pages->bytes({9999, 10'000})) == "x");
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(can_write(dir / "a"));
  EXPECT_TRUE(can_write(dir / "b"));
}

// What is read again is written to memory, which pages are not.
class Doubted final : public ByteSource {
 public:
  explicit Doubted(const File& file) : file_(file) {}
  [[nodiscard]] std::string_view label() const noexcept override { return file_.label(); }
  [[nodiscard]] std::uint64_t size() const noexcept override { return file_.size(); }
  [[nodiscard]] Result<void> read_at(std::uint64_t offset,
                                     std::span<std::byte> out) const override {
    return file_.read_at(offset, out);
  }
  [[nodiscard]] Result<DescriptorLease> descriptor() const override { return file_.descriptor(); }
  [[nodiscard]] unsigned max_rereads() const noexcept override { return 1; }

 private:
  const File& file_;
};

TEST_F(LeasedPools, HaveNoPagesOfSourcesThatMayBeReadAgain) {
  const File& a = file("a");
  const Doubted doubted(a);
  LeasedPool pool;
  EXPECT_FALSE(pool.pages(doubted, kAll));
  EXPECT_TRUE(pool.pages(a, kAll));
}

}  // namespace
}  // namespace flatbed
