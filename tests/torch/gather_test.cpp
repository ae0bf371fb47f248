// gather() against the definition: element by element, for many shapes, strides and ranges.
#include "torch/gather.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "base/str_cat.hpp"
#include "support/expect_error.hpp"

namespace flatbed::pth {
namespace {

using Dims = std::vector<std::uint64_t>;

std::uint64_t product(const Dims& dims) {
  std::uint64_t out = 1;
  for (const std::uint64_t dim : dims) out *= dim;
  return out;
}

// A view, and a storage with just the bytes that it reaches.
struct Case {
  Dims sizes, strides;
  std::uint64_t offset = 0;
  std::uint32_t element = 4;

  [[nodiscard]] StridedView view() const { return {sizes, strides, offset, element}; }
  [[nodiscard]] std::vector<std::byte> storage() const {
    std::uint64_t last = offset;
    for (std::size_t i = 0; i < sizes.size(); ++i)
      last += (std::max<std::uint64_t>(sizes[i], 1) - 1) * strides[i];
    std::vector<std::byte> bytes((last + 1) * element);
    std::minstd_rand random(7);
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(random() >> 8);
    return bytes;
  }
  [[nodiscard]] std::string text() const {
    return str_cat(shape_text(sizes.data(), sizes.size()), " by ",
                   shape_text(strides.data(), strides.size()), " at ", offset, " of ", element);
  }
};

// Elements [first, first + count) of the view, one by one.
std::vector<std::byte> expected(const Case& of, const std::vector<std::byte>& storage,
                                std::uint64_t first, std::uint64_t count) {
  std::vector<std::byte> out(count * of.element);
  for (std::uint64_t i = 0; i < count; ++i) {
    std::uint64_t rest = first + i;
    std::uint64_t at = of.offset;
    for (std::size_t d = of.sizes.size(); d-- > 0; rest /= of.sizes[d])
      at += rest % of.sizes[d] * of.strides[d];
    std::memcpy(out.data() + i * of.element, storage.data() + at * of.element, of.element);
  }
  return out;
}

// What the reads of a gather were.
struct Reads {
  std::size_t count = 0;
  std::uint64_t nbytes = 0;
};

// Whether the range is gathered right, without a read outside of the storage and a byte written
// outside of the output.
testing::AssertionResult gathers(const Case& of, std::uint64_t first, std::uint64_t count,
                                 Reads* reads = nullptr) {
  const std::vector<std::byte> storage = of.storage();
  bool outside = false;
  const ReadStorage read = [&](std::uint64_t offset, std::span<std::byte> out) -> Result<void> {
    if (offset > storage.size() || out.size() > storage.size() - offset) {
      outside = true;
      return {};
    }
    std::memcpy(out.data(), storage.data() + offset, out.size());
    if (reads != nullptr) {
      ++reads->count;
      reads->nbytes += out.size();
    }
    return {};
  };
  constexpr std::size_t kGuard = 64;
  std::vector<std::byte> out(count * of.element + 2 * kGuard, std::byte{0x5A});
  const std::span<std::byte> wanted = std::span(out).subspan(kGuard, count * of.element);
  const Result<void> done = gather(of.view(), first, wanted, read);
  const auto fail = [&](const char* what) {
    return testing::AssertionFailure()
           << of.text() << " from " << first << ", " << count << " elements: " << what;
  };
  if (!done) return fail("an error");
  if (outside) return fail("a read outside of the storage");
  const auto guard = [](std::byte byte) { return byte == std::byte{0x5A}; };
  if (!std::all_of(out.begin(), out.begin() + kGuard, guard) ||
      !std::all_of(out.end() - kGuard, out.end(), guard))
    return fail("a write outside of the output");
  if (!std::ranges::equal(wanted, expected(of, storage, first, count))) return fail("other bytes");
  return testing::AssertionSuccess();
}

testing::AssertionResult gathers_all(const Case& of, Reads* reads = nullptr) {
  return gathers(of, 0, product(of.sizes), reads);
}

TEST(Gather, CopiesContiguousViewsInOneRead) {
  Reads reads;
  EXPECT_TRUE(gathers_all({{2, 3, 4}, {12, 4, 1}, 5}, &reads));
  EXPECT_EQ(reads.count, 1u);
}

TEST(Gather, TransposesAMatrix) { EXPECT_TRUE(gathers_all({{3, 5}, {1, 3}})); }

TEST(Gather, TakesScalarsAndSizesOfOne) {
  EXPECT_TRUE(gathers_all({{}, {}, 3}));
  EXPECT_TRUE(gathers_all({{1, 1, 1}, {7, 0, 9}, 2}));
  EXPECT_TRUE(gathers_all({{1, 4, 1}, {100, 2, 50}}));
}

TEST(Gather, TakesViewsWithoutElements) {
  EXPECT_TRUE(gathers_all({{0}, {1}}));
  EXPECT_TRUE(gathers_all({{3, 0, 2}, {5, 1, 1}}));
}

TEST(Gather, RepeatsDimensionsOfStrideZero) {
  EXPECT_TRUE(gathers_all({{4, 3}, {0, 1}}));
  EXPECT_TRUE(gathers_all({{4, 3}, {1, 0}}));
  EXPECT_TRUE(gathers_all({{4, 3, 2}, {0, 0, 0}, 9}));
  EXPECT_TRUE(gathers_all({{300'000}, {0}}));
}

TEST(Gather, TakesOverlappingWindows) {
  EXPECT_TRUE(gathers_all({{10, 4}, {1, 1}}));
  EXPECT_TRUE(gathers_all({{10, 4}, {2, 1}}));
  EXPECT_TRUE(gathers_all({{5, 5, 3}, {3, 1, 2}}));
}

TEST(Gather, TakesSlicesWithSteps) {
  EXPECT_TRUE(gathers_all({{5, 4}, {20, 2}, 3}));
  EXPECT_TRUE(gathers_all({{3, 2, 2}, {200, 30, 7}, 11}));
  EXPECT_TRUE(gathers_all({{40}, {5000}}));
  EXPECT_TRUE(gathers_all({{40, 3}, {5000, 1}}));
}

TEST(Gather, TakesElementsOfEverySize) {
  for (const std::uint32_t element : {1u, 2u, 4u, 8u, 16u}) {
    EXPECT_TRUE(gathers_all({{7, 9}, {1, 7}, 1, element}));
    EXPECT_TRUE(gathers_all({{70, 90, 3}, {3, 210, 1}, 0, element}));
  }
}

TEST(Gather, TakesARangeThatBeginsAndEndsAnywhere) {
  const Case of{{3, 4, 5}, {1, 15, 3}, 2, 2};
  for (std::uint64_t first = 0; first <= 60; ++first) {
    for (std::uint64_t count = 0; first + count <= 60; ++count) {
      ASSERT_TRUE(gathers(of, first, count));
    }
  }
}

TEST(Gather, PassesTheErrorOfAReadOn) {
  std::vector<std::byte> out(24);
  const Dims sizes = {2, 3};
  const Dims strides = {1, 2};
  int calls = 0;
  const ReadStorage failing = [&](std::uint64_t, std::span<std::byte>) -> Result<void> {
    ++calls;
    return make_error(ErrorCode::file_changed, "no");
  };
  EXPECT_ERROR(gather({sizes, strides, 0, 4}, 0, out, failing), file_changed);
  EXPECT_EQ(calls, 1);
}

// More than the stage holds, so that planes are cut in both directions.
TEST(Gather, TransposesMatricesLargerThanItsStage) {
  for (const std::uint32_t element : {1u, 4u, 16u}) {
    const std::uint64_t side = 2'400'000 / element;
    const std::uint64_t rows = element == 1 ? 1500 : 700;
    const std::uint64_t columns = side / rows;
    EXPECT_TRUE(gathers_all({{columns, rows}, {1, columns}, 0, element}));
  }
  EXPECT_TRUE(gathers_all({{2, 400'000}, {1, 2}, 0, 4}));
  EXPECT_TRUE(gathers_all({{400'000, 2}, {1, 400'000}, 0, 4}));
}

TEST(Gather, TransposesWithLongReads) {
  Reads reads;
  const Case of{{1000, 1000}, {1, 1000}, 0, 4};
  EXPECT_TRUE(gathers_all(of, &reads));
  EXPECT_LT(reads.count, 10u);
  EXPECT_EQ(reads.nbytes, 4'000'000u);
}

TEST(Gather, SkipsGapsThatAreLargerThanTheirElements) {
  Reads reads;
  EXPECT_TRUE(gathers_all({{200, 4}, {10'000, 1}, 0, 4}, &reads));
  EXPECT_LT(reads.nbytes, 200u * 4 * 4 + 1);
}

TEST(Gather, TakesBigRangesOfBigViews) {
  const Case of{{40, 300, 50}, {1, 2000, 40}, 3, 4};  // 2.4 MB of output
  std::mt19937_64 random(3);
  for (int i = 0; i < 12; ++i) {
    const std::uint64_t first = random() % 600'000;
    ASSERT_TRUE(gathers(of, first, random() % (600'001 - first)));
  }
}

Case random_case(std::mt19937_64& random) {
  Case of;
  constexpr std::uint32_t kElements[] = {1, 2, 4, 8, 16};
  of.element = kElements[random() % 5];
  of.offset = random() % 20;
  std::uint64_t stride = 1;
  for (std::size_t rank = random() % 6; rank > 0; --rank) {
    const std::uint64_t size = 1 + random() % 7;
    of.sizes.push_back(size);
    of.strides.push_back(random() % 4 == 0 ? random() % 40 : stride);
    stride *= size + (random() % 3 == 0 ? random() % 3 : 0);
  }
  // The dimensions in any order: views of permuted tensors.
  std::vector<std::size_t> order(of.sizes.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::shuffle(order.begin(), order.end(), random);
  const Case source = of;
  for (std::size_t i = 0; i < order.size(); ++i) {
    of.sizes[i] = source.sizes[order[i]];
    of.strides[i] = source.strides[order[i]];
  }
  return of;
}

TEST(Gather, TakesRandomViewsAndRanges) {
  std::mt19937_64 random(11);
  for (int i = 0; i < 1500; ++i) {
    const Case of = random_case(random);
    const std::uint64_t size = product(of.sizes);
    ASSERT_TRUE(gathers_all(of));
    const std::uint64_t first = random() % (size + 1);
    ASSERT_TRUE(gathers(of, first, random() % (size - first + 1)));
  }
}

}  // namespace
}  // namespace flatbed::pth
