// Structs of older and later callers, and handles.
#include "c/arguments.hpp"

#include <gtest/gtest.h>

#include <memory>

#include "c/first_sizes.hpp"
#include "support/expect_error.hpp"

namespace {

// A struct that had two members when it was new, and now has four.
struct Grown {
  std::uint64_t struct_size;
  std::uint64_t first;
  std::uint64_t second;
  std::uint64_t third;
};

struct Reserving {
  std::uint64_t struct_size;
  std::uint32_t known;
  std::uint32_t reserved;
};

struct Thing {
  static constexpr std::uint64_t kMagic = 77;
  static constexpr std::string_view kType = "thing";
  std::uint64_t magic = kMagic;
  std::shared_ptr<int> owned = std::make_shared<int>(1);
};

}  // namespace

namespace flatbed::c {

template <>
inline constexpr std::uint64_t kFirstSize<Grown> = 16;
template <>
inline constexpr std::uint64_t kFirstSize<Reserving> = 16;

namespace {

TEST(CStructs, WhatAnOlderCallerDoesNotHaveIsZero) {
  const Grown given{24, 1, 2, 3};
  const Result<Grown> read = read_struct(&given, "given");
  ASSERT_OK(read);
  EXPECT_EQ(read->first, 1u);
  EXPECT_EQ(read->second, 2u);
  EXPECT_EQ(read->third, 0u);
}

TEST(CStructs, SizesBelowTheFirstVersionAreRefused) {
  for (const std::uint64_t size : {0U, 8U, 15U}) {
    const Grown given{size, 1, 2, 3};
    EXPECT_ERROR(read_struct(&given, "given"), invalid_argument);
  }
}

TEST(CStructs, WhatIsReservedIsZero) {
  const Reserving given{16, 5, 0};
  EXPECT_OK(read_struct(&given, "given"));
  const Reserving later{16, 5, 1};
  EXPECT_ERROR(read_struct(&later, "given"), invalid_argument);
}

TEST(CStructs, FillsNoMoreThanTheCallerHas) {
  Grown out{16, 7, 7, 7};
  ASSERT_OK(check_report(&out, "out"));
  fill_report(Grown{0, 1, 2, 3}, &out);
  EXPECT_EQ(out.struct_size, 16u);
  EXPECT_EQ(out.first, 1u);
  EXPECT_EQ(out.second, 7u);
}

TEST(CStructs, AreZeroBesidesTheirSizeInCppToo) {
  const flatbed_tensor tensor = FLATBED_INIT(flatbed_tensor);
  EXPECT_EQ(tensor.struct_size, sizeof tensor);
  EXPECT_EQ(tensor.rank, 0u);
  EXPECT_EQ(tensor.name.data, nullptr);
}

TEST(CHandles, AreFreedOnceAndOnlyTheirOwnKind) {
  auto* const thing = new Thing;
  const std::weak_ptr<int> owned = thing->owned;
  EXPECT_OK(check(thing, "thing"));
  free_handle(thing);
  EXPECT_TRUE(owned.expired());
  Thing other;
  other.magic = 78;
  EXPECT_ERROR(check(&other, "thing"), invalid_argument);
  free_handle(&other);
  EXPECT_NE(other.owned, nullptr);
}

}  // namespace
}  // namespace flatbed::c
