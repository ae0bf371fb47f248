// expect_error(): a Result has an error of this code, and its message contains this text.
#pragma once

#include <gtest/gtest.h>

#include <string_view>

#include "support/expect_error.hpp"

namespace flatbed::test {

template <typename T>
void expect_error(const Result<T>& result, ErrorCode code, std::string_view text) {
  EXPECT_TRUE(has_error(result, code));
  if (result) return;
  EXPECT_NE(result.error().message.find(text), std::string::npos)
      << result.error().message << "\nlacks\n" << text;
}

}  // namespace flatbed::test
