// What leaves a C function: results, errors, exceptions as errors, long messages cut.
#include "c/guard.hpp"

#include <gtest/gtest.h>

#include <new>
#include <string>

namespace flatbed::c {
namespace {

TEST(CGuard, ASuccessClearsTheError) {
  flatbed_error error{};
  error.code = 5;
  error.message[0] = 'x';
  EXPECT_EQ(guarded(&error, []() -> Result<void> { return {}; }), 0);
  EXPECT_EQ(error.code, 0);
  EXPECT_STREQ(error.name, "");
  EXPECT_STREQ(error.message, "");
  EXPECT_EQ(guarded(nullptr, []() -> Result<void> { return {}; }), 0);
}

TEST(CGuard, AnErrorFillsCodeNameAndMessage) {
  flatbed_error error{};
  const auto work = []() -> Result<void> { return Error{ErrorCode::no_space, "a: full"}; };
  EXPECT_EQ(guarded(&error, work), 4);
  EXPECT_EQ(error.code, 4);
  EXPECT_STREQ(error.name, "no_space");
  EXPECT_STREQ(error.message, "a: full");
  EXPECT_EQ(error.message_size, 7u);
  EXPECT_EQ(guarded(nullptr, work), 4);
}

TEST(CGuard, CutsMessagesBetweenTwoCharacters) {
  const std::string euro = "\xe2\x82\xac";
  for (std::size_t before = 0; before < 3; ++before) {
    std::string message(before, 'x');
    while (message.size() < 2000) message += euro;
    flatbed_error error{};
    guarded(&error, [&]() -> Result<void> { return Error{ErrorCode::io_error, message}; });
    EXPECT_LE(error.message_size, 1007u);
    EXPECT_GE(error.message_size, 1005u);
    EXPECT_EQ((error.message_size - before) % 3, 0u);
    EXPECT_EQ(std::string(error.message), message.substr(0, error.message_size));
  }
}

TEST(CGuard, KeepsMessagesThatFitExactly) {
  flatbed_error error{};
  const std::string message(1007, 'x');
  guarded(&error, [&]() -> Result<void> { return Error{ErrorCode::io_error, message}; });
  EXPECT_EQ(std::string(error.message), message);
}

#if FLATBED_WITH_EXCEPTIONS
TEST(CGuard, ExceptionsBecomeErrors) {
  flatbed_error error{};
  EXPECT_EQ(guarded(&error, []() -> Result<void> { throw std::bad_alloc(); }), 9);
  EXPECT_STREQ(error.name, "resource_exhausted");
  EXPECT_EQ(guarded(&error, []() -> Result<void> { throw 5; }), 199);
  EXPECT_STREQ(error.name, "internal_error");
}
#endif

}  // namespace
}  // namespace flatbed::c
