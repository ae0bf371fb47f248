// Errors name their file once, whoever says it first.
#include "io/file_error.hpp"

#include <gtest/gtest.h>

#include <string>

namespace flatbed {
namespace {

std::string message_of(std::string_view file, std::string message) {
  return in_file(file, Error{ErrorCode::io_error, std::move(message)}).message;
}

TEST(FileError, NamesTheFile) {
  const Error error = in_file("a.pth", Error{ErrorCode::io_error, "the line went dead"});
  EXPECT_EQ(error.code, ErrorCode::io_error);
  EXPECT_EQ(error.message, "a.pth: the line went dead");
}

TEST(FileError, TakesOutWhatTheSourceSaysOfItself) {
  EXPECT_EQ(message_of("a", "'a': cannot read 8 bytes"), "a: cannot read 8 bytes");
  EXPECT_EQ(message_of("a", "zip entry 'x': 'a': it ends early"),
            "a: zip entry 'x': it ends early");
  EXPECT_EQ(message_of("a", "a: it ends early"), "a: it ends early");
  EXPECT_EQ(message_of("a\n", "'a\\x0a': it ends"), "a\n: it ends");
}

TEST(FileError, NamesAPlaceInTheFile) {
  EXPECT_EQ(in_file("a", "zip entry 'x'", Error{ErrorCode::io_error, "'a': it ends"}).message,
            "a: zip entry 'x': it ends");
}

TEST(FileError, LeavesOtherThingsOfItsName) {
  EXPECT_EQ(message_of("w", "tensor 'w': 'w': it ends"), "w: tensor 'w': it ends");
  EXPECT_EQ(message_of("w", "tensor 'w': offsets"), "w: tensor 'w': offsets");
  EXPECT_EQ(message_of("w", "'w' and 'v' differ"), "w: 'w' and 'v' differ");
}

}  // namespace
}  // namespace flatbed
