// prefetch_pages(), map_pages() and release_pages() over mappings: which pages are there
// afterwards.
#include "io/pages.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

#include "io/file.hpp"
#include "io/mapped_file.hpp"
#include "support/expect_error.hpp"
#include "support/failing_call.hpp"
#include "support/page_cache.hpp"
#include "support/page_map.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::page_nbytes;
using test::present_pages;

constexpr std::size_t kPages = 64;

class Pages : public testing::Test {
 protected:
  Pages() { test::write_file(dir_ / "f", std::string(kPages * page_nbytes(), 'x')); }
  void SetUp() override {
    constexpr int kPopulateRead = 22;
    const MappedFile mapped = map();
    if (::madvise(const_cast<std::byte*>(mapped.bytes().data()), 1, kPopulateRead) != 0)
      GTEST_SKIP() << "no MADV_POPULATE_READ";
  }
  MappedFile map() { return MappedFile::map(File::open(dir_ / "f").value()).value(); }

  test::TempDir dir_;
};

TEST_F(Pages, ArePrefetchedUpToTheEndsOfTheRange) {
  const MappedFile mapped = map();
  const std::size_t page = page_nbytes();
  EXPECT_OK(prefetch_pages(mapped.bytes().subspan(page + 1, 2 * page), "f"));
  // Three pages, two of them in part. The kernel may map neighbours that are in the page cache.
  EXPECT_EQ(present_pages(mapped.bytes().subspan(page, 3 * page)), 3u);
  EXPECT_OK(prefetch_pages(mapped.bytes(), "f"));
  EXPECT_EQ(present_pages(mapped.bytes()), kPages);
}

TEST_F(Pages, AreReleasedOnlyWhereTheRangeHoldsAllOfThem) {
  const MappedFile mapped = map();
  const std::size_t page = page_nbytes();
  EXPECT_OK(prefetch_pages(mapped.bytes(), "f"));
  EXPECT_OK(release_pages(mapped.bytes().subspan(page + 1, 3 * page), "f"));
  EXPECT_EQ(present_pages(mapped.bytes()), kPages - 2);
  EXPECT_EQ(present_pages(mapped.bytes().subspan(2 * page, 2 * page)), 0u);
  EXPECT_EQ(mapped.bytes()[2 * page], std::byte{'x'}) << "comes back from the file";
}

TEST_F(Pages, OfSmallAndEmptyRangesNeedNothing) {
  const MappedFile mapped = map();
  EXPECT_OK(prefetch_pages({}, "f"));
  EXPECT_OK(release_pages({}, "f"));
  EXPECT_OK(release_pages(mapped.bytes().first(page_nbytes() - 1), "f"));
  EXPECT_OK(release_pages(mapped.bytes().subspan(1, page_nbytes()), "f"));
}

TEST_F(Pages, BehindTheEndOfATruncatedFileAreAnError) {
  const MappedFile mapped = map();
  std::filesystem::resize_file(dir_ / "f", page_nbytes());
  const Result<void> read = prefetch_pages(mapped.bytes(), "f");
  EXPECT_ERROR(read, io_error);
  EXPECT_EQ(read.error().message, "f: pages of the mapping cannot be read");
}

TEST_F(Pages, ThatAreLockedAreNotReleased) {
  if (!test::kPagesCanBeLocked) GTEST_SKIP() << "mlock() does nothing here";
  const MappedFile mapped = map();
  if (::mlock(mapped.bytes().data(), page_nbytes()) != 0) GTEST_SKIP() << "no memory to lock";
  EXPECT_ERROR(release_pages(mapped.bytes(), "f"), invalid_argument);
  ::munlock(mapped.bytes().data(), page_nbytes());
  EXPECT_OK(release_pages(mapped.bytes(), "f"));
}

// Where the mapping begins within a range of the kernel's, it leaves some out.
TEST_F(Pages, ThatAreInMemoryAreMappedEitherWay) {
  const std::size_t page = page_nbytes();
  for (const MapBy way : {MapBy::neighbours, MapBy::range}) {
    const MappedFile mapped = map();
    const std::span<const std::byte> range = mapped.bytes().subspan(page + 1, (kPages - 2) * page);
    EXPECT_TRUE(map_pages(range, way));
    EXPECT_GE(present_pages(range), way == MapBy::range ? kPages - 1 : kPages - 16);
  }
}

TEST_F(Pages, ThatAreNotInMemoryAreReadEitherWay) {
  const std::size_t page = page_nbytes();
  for (const MapBy way : {MapBy::neighbours, MapBy::range}) {
    const MappedFile mapped = map();
    test::drop_from_cache(dir_ / "f");
    auto* const begin = const_cast<std::byte*>(mapped.bytes().data());
    ASSERT_EQ(::madvise(begin, mapped.bytes().size(), MADV_RANDOM), 0);  // page by page
    EXPECT_TRUE(map_pages(mapped.bytes().first(1), way));
    if (test::resident_pages(mapped.bytes()) > 1) GTEST_SKIP() << "memory is their disk";
    ASSERT_TRUE(map_pages(mapped.bytes(), way));
    EXPECT_EQ(test::resident_pages(mapped.bytes()), kPages);
    EXPECT_EQ(test::resident_pages(mapped.bytes().subspan((kPages - 1) * page)), 1u);
  }
}

TEST_F(Pages, AreAnErrorOnlyIfTheKernelKnowsHowToReadThem) {
  const MappedFile mapped = map();
  EXPECT_TRUE(test::passes_where_call_fails(SYS_madvise, ENOMEM, [&] {
    const Result<void> read = prefetch_pages(mapped.bytes(), "f");
    return !read && read.error().code == ErrorCode::resource_exhausted;
  }));
  EXPECT_TRUE(test::passes_where_call_fails(SYS_madvise, EINVAL, [&] {  // before Linux 5.14
    return prefetch_pages(mapped.bytes(), "f") && !map_pages(mapped.bytes(), MapBy::range);
  }));
}

// Each by a call of its own.
TEST_F(Pages, AreMappedByOlderKernelsToo) {
  constexpr long kProcessMadviseCall = 440;
  const MappedFile mapped = map();
  EXPECT_TRUE(test::passes_where_call_fails(kProcessMadviseCall, ENOSYS, [&] {
    return map_pages(mapped.bytes(), MapBy::neighbours) &&
           present_pages(mapped.bytes()) >= kPages - 16;
  }));
}

TEST_F(Pages, ThatAreGoneAreNotMappedEitherWay) {
  for (const MapBy way : {MapBy::neighbours, MapBy::range}) {
    const MappedFile mapped = map();
    std::filesystem::resize_file(dir_ / "f", page_nbytes());
    EXPECT_FALSE(map_pages(mapped.bytes(), way));
    std::filesystem::resize_file(dir_ / "f", kPages * page_nbytes());
  }
}

}  // namespace
}  // namespace flatbed
