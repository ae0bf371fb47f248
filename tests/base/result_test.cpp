// Result<T>: a value or an Error, with and without exceptions, and the two macros that pass errors
// on.
#include "flatbed/result.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "support/expect_error.hpp"

namespace flatbed {
namespace {

const Error kError{ErrorCode::io_error, "no"};

TEST(Result, HoldsAValue) {
  Result<int> result = 7;
  ASSERT_TRUE(result);
  EXPECT_TRUE(result.has_value());
  EXPECT_EQ(*result, 7);
  EXPECT_EQ(result.value(), 7);
  *result = 8;
  EXPECT_EQ(result.value(), 8);
}

TEST(Result, HoldsAnError) {
  const Result<int> result = kError;
  EXPECT_FALSE(result);
  EXPECT_FALSE(result.has_value());
  EXPECT_ERROR(result, io_error);
  EXPECT_EQ(result.error().message, "no");
}

TEST(Result, GivesMembersOfItsValue) {
  Result<std::string> result = std::string("abc");
  EXPECT_EQ(result->size(), 3u);
  const Result<std::string> constant = std::string("ab");
  EXPECT_EQ(constant->size(), 2u);
  EXPECT_EQ(*constant, "ab");
  EXPECT_EQ(constant.value(), "ab");
}

TEST(Result, MovesValuesThatCannotBeCopied) {
  Result<std::unique_ptr<int>> result = std::make_unique<int>(5);
  const std::unique_ptr<int> taken = *std::move(result);
  EXPECT_EQ(*taken, 5);
  Result<std::unique_ptr<int>> other = std::make_unique<int>(6);
  const std::unique_ptr<int> also = std::move(other).value();
  EXPECT_EQ(*also, 6);
}

TEST(Result, FallsBackToAnotherValue) {
  EXPECT_EQ(Result<int>(7).value_or(1), 7);
  EXPECT_EQ(Result<int>(kError).value_or(1), 1);
}

TEST(Result, OfAnErrorIsStillAnError) {
  static_assert(!std::is_convertible_v<Result<int>, bool>);
  static_assert(std::is_same_v<Result<int>::value_type, int>);
  const Result<bool> result = false;
  EXPECT_TRUE(result);  // a value, which is false
  EXPECT_FALSE(*result);
}

TEST(ResultOfVoid, IsSuccessOrAnError) {
  EXPECT_TRUE(Result<void>());
  EXPECT_ERROR(Result<void>(kError), io_error);
}

TEST(ResultOfVoid, GivesItsErrorAway) {
  Result<void> result = kError;
  const Error error = std::move(result).error();
  EXPECT_EQ(error.message, "no");
}

Result<int> half(int number) {
  if (number % 2 != 0) return Error{ErrorCode::invalid_argument, "odd"};
  return number / 2;
}

Result<void> check_even(int number) {
  FLATBED_TRY(half(number));
  return {};
}

Result<std::string> quarter(int number) {
  FLATBED_ASSIGN(const int first, half(number));
  int second = 0;
  FLATBED_ASSIGN(second, half(first));
  return std::string(static_cast<std::size_t>(second), 'x');
}

TEST(ResultMacros, PassSuccessOn) {
  EXPECT_OK(check_even(4));
  EXPECT_EQ(quarter(12).value(), "xxx");
}

TEST(ResultMacros, ReturnTheFirstError) {
  EXPECT_ERROR(check_even(3), invalid_argument);
  EXPECT_ERROR(quarter(3), invalid_argument);
  EXPECT_ERROR(quarter(6), invalid_argument);
}

Result<std::pair<int, int>> swapped(int a, int b) {
  FLATBED_ASSIGN(const auto pair, Result<std::pair<int, int>>(std::pair<int, int>{b, a}));
  FLATBED_TRY([&]() -> Result<void> { return {}; }());
  return pair;
}

TEST(ResultMacros, TakeExpressionsWithCommas) { EXPECT_EQ(swapped(1, 2).value(), std::pair(2, 1)); }

TEST(ResultMacros, MoveTheValue) {
  const auto make = []() -> Result<std::unique_ptr<int>> {
    FLATBED_ASSIGN(std::unique_ptr<int> made,
                   Result<std::unique_ptr<int>>(std::make_unique<int>(3)));
    return made;
  };
  EXPECT_EQ(*make().value(), 3);
}

#if FLATBED_WITH_EXCEPTIONS
TEST(Result, ThrowsItsErrorWhenAskedForTheValue) {
  const Result<int> result = kError;
  try {
    static_cast<void>(result.value());
    FAIL() << "no exception";
  } catch (const Exception& caught) {
    EXPECT_EQ(caught.code(), ErrorCode::io_error);
    EXPECT_STREQ(caught.what(), "no");
  }
  EXPECT_THROW(Result<void>(kError).value(), Exception);
  EXPECT_THROW(static_cast<void>(Result<std::vector<int>>(kError).value()), Exception);
}
#else
TEST(Result, EndsTheProcessWhenAskedForTheValue) {
  const Result<int> result = kError;
  EXPECT_DEATH(static_cast<void>(result.value()), "");
}
#endif

}  // namespace
}  // namespace flatbed
