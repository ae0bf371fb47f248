// system_error(): the code for an errno, and the message.
#include "io/system_error.hpp"

#include <gtest/gtest.h>

#include <cerrno>

namespace flatbed {
namespace {

TEST(SystemError, ContinuesInLowerCaseAfterThePlace) {
  EXPECT_EQ(system_error(EROFS, "cannot write 'x'").message,
            "cannot write 'x': read-only file system");
}

TEST(SystemError, HasTheCodeOfTheErrno) {
  EXPECT_EQ(system_error(ENOENT, "x").code, ErrorCode::file_not_found);
  EXPECT_EQ(system_error(EROFS, "x").code, ErrorCode::permission_denied);
  EXPECT_EQ(system_error(EDQUOT, "x").code, ErrorCode::no_space);
  EXPECT_EQ(system_error(EMFILE, "x").code, ErrorCode::resource_exhausted);
  EXPECT_EQ(system_error(EIO, "x").code, ErrorCode::io_error);
}

}  // namespace
}  // namespace flatbed
