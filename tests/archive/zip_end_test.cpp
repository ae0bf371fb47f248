// The end records of a zip: what two readers could read differently is refused.
#include "archive/zip_end.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "support/expect_error.hpp"
#include "support/listed_zip.hpp"

namespace flatbed::pth {
namespace {

TEST(ZipEnd, IsMissingInEveryPrefix) {
  const std::string bytes = build_zip(kTwo);
  for (std::size_t size = 0; size < bytes.size(); ++size)
    EXPECT_ERROR(listed(bytes.substr(0, size)), zip_end_missing) << size;
  EXPECT_ERROR(listed(kTwo, {.comment_nbytes = 1}), zip_end_missing);
  EXPECT_ERROR(listed(kTwo, {.after = std::string(70'000, 'j')}), zip_end_missing);
}

TEST(ZipEnd, MustBeTheOnlyOneThatFits) {
  const std::string bytes = build_zip(kTwo, {.zip64 = false});
  const std::string end = bytes.substr(bytes.size() - 22);
  // A second end record in the comment, and one that both fit.
  EXPECT_ERROR(listed(kTwo, {.zip64 = false, .comment = end}), zip_end_ambiguous);
  EXPECT_ERROR(listed(kTwo, {.comment = "PK\x05\x06 and more than twenty bytes"}),
               zip_end_ambiguous);
  const std::string twin = build_zip(kTwo, {.comment = "PK\x05\x07 and more than twenty bytes"});
  EXPECT_OK(listed(twin));
}

TEST(ZipEnd, MustDescribeTheDirectoryBeforeIt) {
  const ZipEnding plain{.zip64 = false};
  ASSERT_OK(listed(kTwo, plain));
  const auto refused = [&](auto change) {
    ZipEnding ending = plain;
    change(ending);
    EXPECT_ERROR(listed(kTwo, ending), zip_directory_malformed);
  };
  const std::uint64_t offset = build_zip(kTwo, plain).size() - 22 - 2 * 49;
  refused([&](ZipEnding& e) { e.directory_offset = offset - 1; });
  refused([&](ZipEnding& e) { e.directory_offset = offset + 1; });
  refused([](ZipEnding& e) { e.directory_offset = 0xFFFFFFFF; });
  refused([](ZipEnding& e) { e.directory_nbytes = 97; });
  refused([](ZipEnding& e) { e.directory_nbytes = 99; });
  refused([](ZipEnding& e) { e.count = 1; });
  refused([](ZipEnding& e) { e.count = 3; });
  refused([](ZipEnding& e) { e.count = 0; });
  refused([](ZipEnding& e) { e.disk = 1; });
  refused([](ZipEnding& e) { e.before_end = "gap"; });
}

TEST(ZipEnd, Zip64FieldsMustAgree) {
  ASSERT_OK(listed(
      kTwo, {.count = 0xFFFF, .directory_nbytes = 0xFFFFFFFF, .directory_offset = 0xFFFFFFFF}));
  const auto refused = [](const ZipEnding& ending) {
    EXPECT_ERROR(listed(kTwo, ending), zip64_malformed);
  };
  refused({.count64 = 3});
  refused({.directory_nbytes64 = 97});
  refused({.directory_offset64 = 1});
  refused({.directory_nbytes = 0xFFFFFFFF, .directory_nbytes64 = ~std::uint64_t{0}});
  refused({.directory_offset = 0xFFFFFFFF, .directory_offset64 = ~std::uint64_t{0}});
  refused({.size64 = 45});
  refused({.end64_offset = 0});
  refused({.end64_offset = ~std::uint64_t{0}});
}

}  // namespace
}  // namespace flatbed::pth
