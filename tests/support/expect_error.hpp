// EXPECT_ERROR and ASSERT_OK: assertions about a Result.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "flatbed/error.hpp"
#include "flatbed/result.hpp"

namespace flatbed::test {

template <typename T>
testing::AssertionResult has_error(const Result<T>& result, ErrorCode wanted) {
  if (result) return testing::AssertionFailure() << "no error, wanted " << name(wanted);
  if (result.error().code == wanted) return testing::AssertionSuccess();
  return testing::AssertionFailure() << name(result.error().code) << " (" << result.error().message
                                     << "), wanted " << name(wanted);
}

template <typename T>
testing::AssertionResult is_ok(const Result<T>& result) {
  if (result) return testing::AssertionSuccess();
  return testing::AssertionFailure()
         << name(result.error().code) << " (" << result.error().message << ")";
}

}  // namespace flatbed::test

// EXPECT_ERROR(File::open("none"), file_not_found);
#define EXPECT_ERROR(result, code) \
  EXPECT_TRUE(::flatbed::test::has_error((result), ::flatbed::ErrorCode::code))
#define EXPECT_OK(result) EXPECT_TRUE(::flatbed::test::is_ok(result))
#define ASSERT_OK(result) ASSERT_TRUE(::flatbed::test::is_ok(result))
